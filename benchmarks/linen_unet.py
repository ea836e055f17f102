"""The network of denoising-diffusion-pytorch in linen with genjax's layers, as a fair peer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.attention import attend
from genjax.models.layers import Conv, UpsampleConv, time_embedding

HEADS, HEAD_FEATURES, MEMORIES = 4, 32, 4


class RMSNorm(nn.Module):
    """x / ‖x‖ · √C · g over the channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        g = self.param("g", nn.initializers.ones, (x.shape[-1],))
        squares = jnp.sum(jnp.square(x.astype(jnp.float32)), -1, keepdims=True)
        # PyTorch bounds the norm by 1e-12; its square is what has a gradient at zero here.
        gain = jax.lax.rsqrt(jnp.maximum(squares, 1e-24)) * x.shape[-1] ** 0.5
        return (x * gain * g[None, None, None]).astype(x.dtype)


class ResnetBlock(nn.Module):
    """Two blocks of conv, norm, SiLU, the first scaled and shifted by the time."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        scale, shift = jnp.split(
            nn.Dense(2 * self.features, name="mlp", dtype=self.dtype)(nn.silu(t)), 2, -1
        )
        h = RMSNorm(name="norm1")(Conv(self.features, name="proj1", dtype=self.dtype)(x))
        h = nn.silu(h * (scale + 1)[:, None, None] + shift[:, None, None])
        h = nn.silu(RMSNorm(name="norm2")(Conv(self.features, name="proj2", dtype=self.dtype)(h)))
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), name="res_conv", dtype=self.dtype)(x)
        return h + x


class Attention(nn.Module):
    """Attention of four heads with four learnt keys and values, or its linear form."""

    linear: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        inside = HEADS * HEAD_FEATURES
        y = RMSNorm(name="norm")(x)
        qkv = Conv(3 * inside, (1, 1), use_bias=False, name="to_qkv", dtype=self.dtype)(y)
        q, k, v = jnp.moveaxis(qkv.reshape(b, h * w, 3, HEADS, HEAD_FEATURES), 2, 0)
        memory = self.param(
            "mem_kv", nn.initializers.normal(1.0), (2, MEMORIES, HEADS, HEAD_FEATURES)
        ).astype(q.dtype)
        mk, mv = (jnp.broadcast_to(m[None], (b, *m.shape)) for m in memory)
        k, v = jnp.concatenate([mk, k], 1), jnp.concatenate([mv, v], 1)  # [B, 4 + HW, heads, d]
        if self.linear:
            q = jax.nn.softmax(q, -1) * HEAD_FEATURES**-0.5
            context = jnp.einsum("bnhd,bnhe->bhde", jax.nn.softmax(k, 1), v)
            y = jnp.einsum("bhde,bnhd->bnhe", context, q)
        else:
            y = attend(q, k, v)
        y = Conv(c, (1, 1), name="to_out", dtype=self.dtype)(y.reshape(b, h, w, inside))
        return RMSNorm(name="norm_out")(y) if self.linear else y


class LucidUNet(nn.Module):
    """(z [B, H, W, C], t [B] in [0, 1]) -> [B, H, W, C]: denoising_diffusion_pytorch.Unet."""

    channels: int
    multipliers: tuple[int, ...]
    dtype: Any = None

    @nn.compact
    def __call__(self, z: jax.Array, t: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype}
        sizes = [self.channels, *(self.channels * m for m in self.multipliers)]
        last = len(self.multipliers) - 1
        x = start = Conv(self.channels, (7, 7), name="init_conv", **kinds)(z)
        t = nn.Dense(4 * self.channels, name="time_1", **kinds)(time_embedding(t, self.channels))
        t = nn.Dense(4 * self.channels, name="time_3", **kinds)(nn.gelu(t, approximate=False))

        skips = []
        for i in range(last + 1):
            x = ResnetBlock(sizes[i], name=f"downs_{i}_0", **kinds)(x, t)
            skips.append(x)
            x = ResnetBlock(sizes[i], name=f"downs_{i}_1", **kinds)(x, t)
            x = x + Attention(i < last, name=f"downs_{i}_2", **kinds)(x)
            skips.append(x)
            if i < last:
                x = Conv(sizes[i + 1], (1, 1), name=f"downs_{i}_3", **kinds)(_to_channels(x))
            else:
                x = Conv(sizes[i + 1], (3, 3), name=f"downs_{i}_3", **kinds)(x)

        x = ResnetBlock(sizes[-1], name="mid_block1", **kinds)(x, t)
        x = x + Attention(False, name="mid_attn", **kinds)(x)
        x = ResnetBlock(sizes[-1], name="mid_block2", **kinds)(x, t)

        for i in range(last + 1):
            size, below = sizes[last + 1 - i], sizes[last - i]
            for j in (0, 1):
                x = jnp.concatenate([x, skips.pop()], -1)
                x = ResnetBlock(size, name=f"ups_{i}_{j}", **kinds)(x, t)
            x = x + Attention(i > 0, name=f"ups_{i}_2", **kinds)(x)
            resize = UpsampleConv if i < last else Conv
            x = resize(below, (3, 3), name=f"ups_{i}_3", **kinds)(x)

        x = jnp.concatenate([x, start], -1)
        x = ResnetBlock(self.channels, name="final_res_block", **kinds)(x, t)
        return Conv(z.shape[-1], (1, 1), name="final_conv", **kinds)(x)


def _to_channels(x: jax.Array) -> jax.Array:
    """Each 2x2 square's pixels side by side in the channels: [B, 2H, 2W, C] -> [B, H, W, 4C]."""
    b, h, w, c = x.shape
    squares = x.reshape(b, h // 2, 2, w // 2, 2, c)
    # The channel is the slowest of the three, as in the peer.
    return squares.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, 4 * c)
