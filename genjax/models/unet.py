"""The U-Net of DDPM: residual blocks, attention at chosen resolutions, time and class."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.layers import Attention, Conv, Dropout, UpsampleConv, time_embedding
from genjax.models.normalization import GroupNorm


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + embedding))), the second conv initialised at zero.

    Args:
      features: output channels.
      groups: of the GroupNorm.
      dropout: probability.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C], an embedding [B, E] and keys [B] for the dropout, or None for no dropout:
      [B, H, W, features].
    """

    features: int
    groups: int = 32
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array, keys: jax.Array | None) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h = nn.silu(GroupNorm(self.groups, **kinds)(x))
        h = Conv(self.features, (3, 3), **kinds)(h)
        h = h + nn.Dense(self.features, **kinds)(emb)[:, None, None, :]
        h = nn.silu(GroupNorm(self.groups, **kinds)(h))
        h = Dropout(self.dropout)(h, keys)
        h = Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros, **kinds)(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), name="skip", **kinds)(x)
        return x + h


class UNet(nn.Module):
    """The U-Net of DDPM.

    Level i has `channels * multipliers[i]` channels at H / 2^i, with `blocks` residual blocks on
    the way down and one more on the way up. Attention follows each block at the resolutions in
    `attention`, and once in the middle.

    Args:
      channels: at full resolution.
      multipliers: of the channels, per level.
      blocks: residual blocks per level.
      attention: the heights, in pixels, with self-attention.
      head_features: channels of an attention head.
      groups: of the GroupNorm.
      dropout: probability.
      classes: number of classes K to condition on; None for an unconditional network.
      out_channels: of the prediction; None for C. More serve a learned variance.
      remat: whether the gradient recomputes each residual block instead of storing its activations:
        less memory on a GPU or TPU, a third more work. On the CPU XLA undoes it.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From z [B, H, W, C], times t [B] in [0, 1] and labels [B] in 0..K: the prediction,
      [B, H, W, C], of z's dtype. H and W must be divisible by 2^(levels − 1). The label K, and None
      for labels, mean "no class" (classifier-free guidance). keys: one PRNG key per example [B],
      for the dropout, or None for no dropout.

    Raises:
      ValueError: where H or W is not divisible, or for labels where `classes` is None.

    References:
      Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
      (2015), arXiv:1505.04597.
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, appendix B.
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (7,)
    head_features: int = 64
    groups: int = 8
    dropout: float = 0.0
    classes: int | None = None
    out_channels: int | None = None
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        t: jax.Array,
        label: jax.Array | None = None,
        *,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        conditioning.check(label, self.classes)
        levels = len(self.multipliers)
        if z.shape[1] % 2 ** (levels - 1) or z.shape[2] % 2 ** (levels - 1):
            raise ValueError(
                f"{levels} levels need sides divisible by {2 ** (levels - 1)}, not {z.shape[1:3]}"
            )
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        counter = itertools.count()

        def residual(x: jax.Array, features: int) -> jax.Array:
            # An explicit name: nn.remat would rename the parameters.
            name = f"ResidualBlock_{next(counter)}"
            kind = nn.remat(ResidualBlock) if self.remat else ResidualBlock
            return kind(features, self.groups, self.dropout, name=name, **kinds)(x, emb, keys)

        def block(x: jax.Array, level: int) -> jax.Array:
            x = residual(x, self.channels * self.multipliers[level])
            if x.shape[1] in self.attention:
                x = Attention(self.head_features, self.groups, **kinds)(x)
            return x

        width = 4 * self.channels
        emb = nn.silu(nn.Dense(width, **kinds)(time_embedding(t, self.channels)))
        emb = nn.Dense(width, **kinds)(emb)
        if self.classes is not None:
            embed = conditioning.ClassEmbedding(self.classes, width, **kinds)
            emb = emb + embed(label, z.shape[0])
        emb = nn.silu(emb)

        x = Conv(self.channels, (3, 3), name="conv_in", **kinds)(z)
        skips = [x]
        for level in range(levels):
            for _ in range(self.blocks):
                x = block(x, level)
                skips.append(x)
            if level < levels - 1:
                x = Conv(x.shape[-1], (3, 3), strides=(2, 2), name=f"down_{level}", **kinds)(x)
                skips.append(x)

        x = residual(x, x.shape[-1])
        x = Attention(self.head_features, self.groups, **kinds)(x)
        x = residual(x, x.shape[-1])

        for level in reversed(range(levels)):
            for _ in range(self.blocks + 1):
                x = block(jnp.concatenate([x, skips.pop()], axis=-1), level)
            if level:
                x = UpsampleConv(x.shape[-1], (3, 3), name=f"up_{level}", **kinds)(x)

        x = nn.silu(GroupNorm(self.groups, **kinds)(x))
        return Conv(
            self.out_channels or z.shape[-1],
            (3, 3),
            kernel_init=nn.initializers.zeros,
            name="conv_out",
            **kinds,
        )(x).astype(z.dtype)
