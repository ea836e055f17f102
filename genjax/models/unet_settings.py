"""The settings of a U-Net as an experiment's flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from genjax.models.unet import UNet


@dataclass(frozen=True)
class UNetSettings:
    """A base class for the settings of an experiment with a U-Net."""

    channels: int = 16
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Multipliers of the channels, per level; each level halves the resolution."""
    blocks: int = 1
    """Residual blocks per level."""
    attention: tuple[int, ...] = (7,)
    """Resolutions with self-attention."""
    head_features: int = 64
    """Channels of an attention head."""
    groups: int = 8
    """Groups of the normalisation."""
    dropout: float = 0.0
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
