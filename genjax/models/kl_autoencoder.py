"""The spatial autoencoder of latent diffusion: images to a small grid of Gaussians, and back."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Attention, Conv, Projection, UpsampleConv
from genjax.models.normalization import GroupNorm, most_groups

Moments = dict[str, jax.Array]  # "mean" [c] and "square" [c], the mean of the squares


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), the second conv initialised at zero.

    Args:
      features: output channels.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C]: [B, H, W, features].
    """

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = nn.silu(GroupNorm(most_groups(x.shape[-1]), name="norm_0", **kinds)(x))
        h = Conv(self.features, (3, 3), name="conv_0", **kinds)(h)
        h = nn.silu(GroupNorm(most_groups(self.features), name="norm_1", **kinds)(h))
        zeros = nn.initializers.zeros
        h = Conv(self.features, (3, 3), kernel_init=zeros, name="conv_1", **kinds)(h)
        if x.shape[-1] != self.features:
            x = Projection(self.features, name="skip", **kinds)(x)
        return x + h


class _Coder(nn.Module):
    """What encoder and decoder share: their sizes, and the blocks at the lowest resolution.

    Args:
      channels: at full resolution.
      multipliers: of the channels, per level; each level but the last halves the resolution.
      blocks: residual blocks per level of the encoder; the decoder has one more.
      latent: channels of the latents.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    latent: int = 4
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def _kinds(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def _level(self, x: jax.Array, level: int, blocks: int) -> jax.Array:
        for i in range(blocks):
            features = self.channels * self.multipliers[level]
            x = ResidualBlock(features, name=f"level_{level}_block_{i}", **self._kinds)(x)
        return x

    def _middle(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = ResidualBlock(width, name="mid_block_0", **self._kinds)(x)
        x = Attention(width, most_groups(width), name="mid_attention", **self._kinds)(x)
        return ResidualBlock(width, name="mid_block_1", **self._kinds)(x)

    def _normed(self, x: jax.Array) -> jax.Array:
        return nn.silu(GroupNorm(most_groups(x.shape[-1]), name="norm_out", **self._kinds)(x))


class Encoder(_Coder):
    """Residual blocks and strided convolutions, and attention at the lowest resolution.

    Returns:
      From images [B, H, W, C], H and W divisible by f = 2^(levels − 1): the means and log variances
      of the latents beside each other, [B, H / f, W / f, 2 latent], of x's dtype.

    Raises:
      ValueError: where H or W is not divisible.

    References:
      Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022),
      arXiv:2112.10752, appendix G.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        given, last = x, len(self.multipliers) - 1
        if any(side % 2**last for side in x.shape[1:3]):
            raise ValueError(
                f"{last + 1} levels need sides divisible by {2**last}, not {x.shape[1:3]}"
            )
        x = Conv(self.channels, (3, 3), name="conv_in", **self._kinds)(x)
        for level in range(last + 1):
            x = self._level(x, level, self.blocks)
            if level < last:
                # Zeros behind the last row and column alone, as in the authors' code.
                how: dict[str, Any] = {"strides": (2, 2), "padding": ((0, 1), (0, 1))}
                x = Conv(x.shape[-1], (3, 3), name=f"down_{level}", **how, **self._kinds)(x)
        x = self._normed(self._middle(x))
        x = Conv(2 * self.latent, (3, 3), name="conv_out", **self._kinds)(x)
        return Projection(2 * self.latent, name="quantize", **self._kinds)(x).astype(given.dtype)


class Decoder(_Coder):
    """The encoder in reverse; nearest neighbours and a convolution double the resolution.

    Args:
      out_channels: of an image.

    Returns:
      From latents [B, h, w, latent]: images [B, f h, f w, out_channels] with f = 2^(levels − 1), of
      the latents' dtype. `features` returns what the last layer, "conv_out", takes instead,
      [B, f h, f w, channels].

    References:
      Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022),
      arXiv:2112.10752, appendix G.
    """

    out_channels: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, *, features: bool = False) -> jax.Array:
        x = Projection(self.latent, name="quantize", **self._kinds)(z)
        lowest = self.channels * self.multipliers[-1]
        x = self._middle(Conv(lowest, (3, 3), name="conv_in", **self._kinds)(x))
        for level in reversed(range(len(self.multipliers))):
            x = self._level(x, level, self.blocks + 1)
            if level:
                x = UpsampleConv(x.shape[-1], (3, 3), name=f"up_{level}", **self._kinds)(x)
        x = self._normed(x)
        if features:
            return x
        x = Conv(self.out_channels, (3, 3), name="conv_out", **self._kinds)(x)
        return x.astype(z.dtype)


@dataclass(frozen=True)
class KLAutoencoder:
    """Encoder and decoder as one, for images in −1..1.

    Args:
      encoder: the encoder.
      decoder: the decoder.
      shape: (H, W, C) of an image.
    """

    encoder: Encoder
    decoder: Decoder
    shape: tuple[int, int, int]

    @property
    def latent(self) -> tuple[int, int, int]:
        """(h, w, c) of an image's latents."""
        halvings = len(self.encoder.multipliers) - 1
        return self.shape[0] >> halvings, self.shape[1] >> halvings, self.encoder.latent

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws parameters.

        Args:
          key: one PRNG key.

        Returns:
          {"encoder": …, "decoder": …}.
        """
        x, z = jnp.zeros((1, *self.shape)), jnp.zeros((1, *self.latent))
        keys = jax.random.split(key)
        return {"encoder": self.encoder.init(keys[0], x), "decoder": self.decoder.init(keys[1], z)}

    def posterior(self, params: dict[str, Any], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The Gaussians of images' latents.

        Args:
          params: of both networks.
          x: images, [B, H, W, C], in −1..1.

        Returns:
          Means and log variances, [B, h, w, c] each; the latter in −30..20.
        """
        found: Any = self.encoder.apply(params["encoder"], x)
        mean, log_var = jnp.split(found, 2, -1)
        return mean, jnp.clip(log_var, -30, 20)

    def image(self, params: dict[str, Any], z: jax.Array) -> jax.Array:
        """The images of latents.

        Args:
          params: of both networks.
          z: [B, h, w, c].

        Returns:
          [B, H, W, C], around −1..1.
        """
        found: Any = self.decoder.apply(params["decoder"], z)
        return found

    def features(self, params: dict[str, Any], z: jax.Array) -> jax.Array:
        """What the decoder's last layer takes.

        Args:
          params: of both networks.
          z: [B, h, w, c].

        Returns:
          [B, H, W, channels].
        """
        found: Any = self.decoder.apply(params["decoder"], z, features=True)
        return found

    def last_layer(self, last: dict[str, Any], features: jax.Array) -> jax.Array:
        """The decoder's last layer.

        Args:
          last: its parameters, the decoder's "conv_out".
          features: [B, H, W, channels].

        Returns:
          The images, [B, H, W, C].
        """
        decoder = self.decoder
        layer = Conv(
            decoder.out_channels, (3, 3), dtype=decoder.dtype, param_dtype=decoder.param_dtype
        )
        image: Any = layer.apply({"params": last}, features)
        return image.astype(jnp.float32)


def standardized(moments: Moments, z: jax.Array) -> jax.Array:
    r"""Latents of mean 0 and variance 1 per channel, which a prior learns.

    $$
    \frac{z - m}{\sqrt{q - m^2}}
    $$

    Args:
      moments: mean m and mean square q of each channel over the training images.
      z: [B, h, w, c].

    Returns:
      Like z.
    """
    return (z - _per_channel(moments["mean"])) / _per_channel(_deviation(moments))


def restored(moments: Moments, z: jax.Array) -> jax.Array:
    """The inverse of `standardized`.

    Args:
      moments: of each channel over the training images.
      z: [B, h, w, c], standardized.

    Returns:
      The latents that the decoder takes.
    """
    return z * _per_channel(_deviation(moments)) + _per_channel(moments["mean"])


def _deviation(moments: Moments) -> jax.Array:
    # A channel that does not vary has nothing to divide by.
    return jnp.sqrt(jnp.maximum(moments["square"] - moments["mean"] ** 2, 1e-12))


def _per_channel(a: jax.Array) -> jax.Array:
    return a[None, None, None]
