"""The U-Net of denoising diffusion: residual blocks, attention at chosen sizes, time and class."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import (
    Attention,
    ClassEmbedding,
    Conv,
    Dropout,
    UpsampleConv,
    time_embedding,
)
from genjax.models.normalization import GroupNorm


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + embedding))), the second conv zero at first."""

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
    """(z [B, H, W, C], t [B] in [0, 1]) -> prediction [B, H, W, C] (Ho et al. 2020, appendix B).

    Level i has `channels * multipliers[i]` channels at H / 2^i, with `blocks` residual blocks on
    the way down and one more on the way up; attention follows each at the heights in `attention`
    and once in the middle. H and W must be divisible by 2^(levels − 1). With `classes`, label [B]
    conditions it; the label `classes` itself, and label None, mean "no class" (classifier-free
    guidance). `out_channels` other than C serves a learned variance. keys: one PRNG key per
    example, [B], for the dropout; None when not training. With `remat` the gradient computes each
    residual block again instead of keeping its activations: less memory on a GPU or TPU, a third
    more work (on a CPU XLA undoes it). `dtype` is what it computes in, None for what inputs and
    parameters have; the prediction has z's type either way.
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
        levels = len(self.multipliers)
        if z.shape[1] % 2 ** (levels - 1) or z.shape[2] % 2 ** (levels - 1):
            raise ValueError(
                f"{levels} levels need sides divisible by {2 ** (levels - 1)}, not {z.shape[1:3]}"
            )
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        counter = itertools.count()

        def residual(x: jax.Array, features: int) -> jax.Array:
            # A name of its own, as nn.remat would call the parameters otherwise.
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
            emb = emb + ClassEmbedding(self.classes, width, **kinds)(label, z.shape[0])
        elif label is not None:
            raise ValueError("a label needs a network with `classes`")
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
