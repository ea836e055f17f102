"""The settings of EDM's networks as an experiment's flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from genjax import limits
from genjax.errors import ConfigError
from genjax.limits import Count, Depth, Share, Width, Widths
from genjax.models.edm2_unet import EDM2UNet
from genjax.models.song_unet import SongUNet
from genjax.models.unet_settings import check_attention


@dataclass(frozen=True)
class EDMSettings:
    """A base class for the settings of an experiment with one of EDM's networks."""

    network: Literal["ddpmpp", "ncsnpp", "edm2"] = "ddpmpp"
    """DDPM++; NCSN++, which embeds the noise by Fourier features, resamples smoothly and sees the
    image at every level; or EDM2's, of magnitude-preserving layers and learned uncertainty."""
    channels: Width = 16
    """Channels at full resolution, before the multipliers."""
    multipliers: Widths = (1, 2, 4)
    """Multipliers of the channels, per level; each level halves the resolution."""
    blocks: Depth = 1
    """Residual blocks per level."""
    attention: tuple[Count, ...] = (7,)
    """Resolutions with self-attention."""
    dropout: Share = 0.0
    """Probability of dropping an activation."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the network's computation; its parameters are float32 either way."""
    remat: bool = False
    """Recompute activations for the gradient: less memory on a GPU, a third more work."""

    def denoiser(self, classes: int | None = None, augment: int = 0) -> nn.Module:
        """The network.

        Args:
          classes: number of classes to condition on, None for none.
          augment: parameters of an image's augmentation to condition on, 0 for none.

        Returns:
          The linen module, called with (x, c_noise, label, augment, keys=keys).
        """
        sizes = (self.channels, self.multipliers, self.blocks, self.attention)
        more: dict[str, Any] = {"dropout": self.dropout, "classes": classes, "remat": self.remat}
        more["dtype"] = jnp.dtype(self.compute)
        if self.network == "edm2":
            return EDM2UNet(*sizes, **more)
        return SongUNet(*sizes, ncsnpp=self.network == "ncsnpp", augment=augment, **more)

    def check_denoiser(self, shape: tuple[int, ...]) -> None:
        """Checks the network's settings with each other and with the images.

        Args:
          shape: (H, W, C) of an image.

        Raises:
          ConfigError: where they do not fit; the message names the flags.
        """
        levels = len(self.multipliers)
        limits.check_sides(shape, levels - 1, "--multipliers")
        if self.channels % 2:
            raise ConfigError(f"--channels must be even, not {self.channels}")
        widths = {shape[0] >> i: self.channels * m for i, m in enumerate(self.multipliers)}
        check_attention(self.attention, type(self).attention, widths)
        *_, middle = widths.values()
        for width in (middle, *(w for height, w in widths.items() if height in self.attention)):
            if self.network == "edm2" and width % min(EDM2UNet.head_features, width):
                raise ConfigError(
                    f"--network edm2 has heads of {EDM2UNet.head_features} channels, which do not "
                    f"divide the {width} of a level with attention: they are --channels times "
                    "--multipliers"
                )
