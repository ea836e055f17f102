"""The settings of a U-Net as an experiment's flags."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from genjax import limits
from genjax.errors import ConfigError
from genjax.limits import Count, Depth, Share, Width, Widths
from genjax.models.unet import UNet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UNetSettings:
    """A base class for the settings of an experiment with a U-Net."""

    channels: Width = 16
    """Channels at full resolution."""
    multipliers: Widths = (1, 2, 4)
    """Multipliers of the channels, per level; each level halves the resolution."""
    blocks: Depth = 1
    """Residual blocks per level."""
    attention: tuple[Count, ...] = (7,)
    """Resolutions with self-attention."""
    head_features: Width = 64
    """Channels of an attention head."""
    groups: Width = 8
    """Groups of the normalisation."""
    dropout: Share = 0.0
    """Probability of dropping an activation."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the network's computation; its parameters are float32 either way."""
    remat: bool = False
    """Recompute activations for the gradient: less memory on a GPU, a third more work."""

    def unet(self, classes: int | None = None) -> UNet:
        """The network.

        Args:
          classes: number of classes to condition on, None for none.

        Returns:
          The linen module.
        """
        return UNet(
            self.channels,
            self.multipliers,
            self.blocks,
            self.attention,
            self.head_features,
            self.groups,
            dropout=self.dropout,
            classes=classes,
            remat=self.remat,
            dtype=jnp.dtype(self.compute),
        )

    def check_unet(self, shape: tuple[int, ...]) -> None:
        """Checks the network's settings with each other and with the images.

        Args:
          shape: (H, W, C) of an image.

        Raises:
          ConfigError: where they do not fit; the message names the flags.
        """
        halvings = len(self.multipliers) - 1
        limits.check_sides(shape, halvings, "--multipliers")
        if self.channels % 2:
            raise ConfigError(f"--channels must be even, not {self.channels}")
        heights = {shape[0] >> i: self.channels * m for i, m in enumerate(self.multipliers)}
        for width in (self.channels, *heights.values()):
            if width % self.groups:
                raise ConfigError(
                    f"--groups {self.groups} does not divide the {width} channels of a level: they "
                    "are --channels times --multipliers"
                )
        check_attention(self.attention, type(self).attention, heights)
        *others, middle = heights.items()
        for width in (middle[1], *(width for height, width in others if height in self.attention)):
            if width % min(self.head_features, width):
                raise ConfigError(
                    f"--head-features {self.head_features} does not divide the {width} channels of "
                    "a level with attention: they are --channels times --multipliers"
                )


def check_attention(
    attention: tuple[int, ...], default: tuple[int, ...], heights: Collection[int]
) -> None:
    """Checks that there are levels of the resolutions with attention.

    Args:
      attention: the resolutions; those of the default are none that anybody asked for.
      default: of the experiment.
      heights: of the levels.

    Raises:
      ConfigError: where one is the height of no level.
    """
    missing = [height for height in attention if height not in heights]
    known = ", ".join(map(str, heights))
    if missing and attention != default:
        raise ConfigError(f"--attention {missing[0]} is the height of no level: there are {known}")
    if missing == list(attention) != []:
        logger.warning(
            "no level is --attention %s pixels high (there are %s): attention in the middle alone",
            " ".join(map(str, missing)),
            known,
        )
