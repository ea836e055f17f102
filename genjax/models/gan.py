"""The generator and discriminator of the first GAN's kind: two dense layers each."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Dropout


class Generator(nn.Module):
    """Noise [B, n] -> image [B, *shape] in (−1, 1): ReLU layers, then a linear one and tanh."""

    shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (256,)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for width in self.widths:
            z = nn.relu(nn.Dense(width, **kinds)(z))
        z = jnp.tanh(nn.Dense(math.prod(self.shape), **kinds)(z))
        return z.reshape(z.shape[0], *self.shape)


class Discriminator(nn.Module):
    """Image [B, ...] -> logit [B], high for real: LeakyReLU layers with dropout between.

    keys: one PRNG key per example, [B], for the dropout; None when not training.
    """

    widths: tuple[int, ...] = (256,)
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, keys: jax.Array | None = None) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = nn.leaky_relu(nn.Dense(width, **kinds)(x), 0.2)
            x = Dropout(self.dropout)(x, keys)
        return nn.Dense(1, **kinds)(x)[:, 0]
