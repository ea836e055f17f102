"""The settings of a very deep VAE's networks as an experiment's flags."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from genjax.errors import ConfigError
from genjax.limits import Depth, Limits, Width
from genjax.models import logistic_mixture
from genjax.models.top_down import TopDownVAE, VeryDeepVAE

Factors = Annotated[tuple[Annotated[int, Limits(2)], ...], Limits(1)]
BlocksOrNone = Annotated[int, Limits(0, 1000)]


@dataclass(frozen=True)
class TopDownSettings:
    """A base class for the settings of an experiment with a very deep VAE."""

    channels: Width = 32
    """Channels at every resolution."""
    bottleneck: Width = 16
    """Channels within the blocks."""
    latent: Width = 8
    """Channels of each block's latents."""
    pooling: Factors = (2, 2, 7)
    """Factors by which the encoder shrinks images, one after the other."""
    encoder_blocks: Annotated[tuple[BlocksOrNone, ...], Limits(1)] = (0, 1, 3, 1)
    """Residual blocks at each resolution, the images' first; each pooling has one more."""
    decoder_blocks: Annotated[tuple[Depth, ...], Limits(1)] = (1, 2, 6, 3)
    """Blocks of latents at each resolution, the images' first."""

    mixture: Width = 5
    """Logistics in a pixel's mixture."""

    def top_down(self, shape: tuple[int, int, int], classes: int | None) -> VeryDeepVAE:
        """The networks.

        Args:
          shape: (H, W, C) of an image.
          classes: number of classes to condition on, None for none.

        Returns:
          The model.
        """
        network = TopDownVAE(
            shape[:2],
            logistic_mixture.outputs(shape[-1], self.mixture),
            self.channels,
            self.bottleneck,
            self.latent,
            self.pooling,
            self.encoder_blocks,
            self.decoder_blocks,
            classes,
        )
        return VeryDeepVAE(network, shape, self.mixture)

    def check_top_down(self, shape: Sequence[int]) -> None:
        """Checks that the networks fit images.

        Args:
          shape: (H, W, C) of an image.

        Raises:
          ConfigError: where there is not a number of blocks for each resolution, or a side is not
            divisible by all the factors.
        """
        levels, whole = len(self.pooling) + 1, math.prod(self.pooling)
        for flag, counts in (
            ("--encoder-blocks", self.encoder_blocks),
            ("--decoder-blocks", self.decoder_blocks),
        ):
            if len(counts) != levels:
                raise ConfigError(
                    f"--pooling leads to {levels} resolutions: give as many {flag}, "
                    f"not {len(counts)}"
                )
        if any(side % whole for side in shape[:2]):
            below = max(whole, min(shape[:2]) // whole * whole)
            raise ConfigError(
                f"--pooling makes the sides {whole} times smaller, by which {shape[0]}x{shape[1]} "
                f"are not divisible: give others, or --data.size {below}"
            )
