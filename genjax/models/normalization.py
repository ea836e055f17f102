"""Normalisation, and statistics over the whole batch that no number of devices changes."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from genjax import over_batch
from genjax.numerics import widen


class GroupNorm(nn.Module):
    """y = (x − mean) / √(var + ε) · scale + bias over each group of channels and all pixels.

    The parameters, shapes and values of linen's GroupNorm (Wu & He 2018); x is [B, ..., C] and the
    statistics at least float32.
    """

    groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        if channels % self.groups:
            raise ValueError(f"{channels} channels do not divide into {self.groups} groups")
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        pixels = tuple(range(1, x.ndim - 1))
        f = widen(x)

        # To channels first, to groups on [B, C] after: XLA's CPU backend is several times slower
        # on the reduction of the five-dimensional array, and if the two moments are stacked.
        def moment(f: jax.Array) -> jax.Array:
            over_pixels = f.mean(pixels).reshape(x.shape[0], self.groups, -1)
            return jnp.repeat(over_pixels.mean(-1), channels // self.groups, -1)  # [B, C]

        mean = moment(f)
        var = jnp.maximum(moment(jnp.square(f)) - mean**2, 0.0)
        gain = lax.rsqrt(var + self.epsilon) * scale[None]  # [B, C]
        shift = bias[None] - mean * gain
        dtype = self.dtype or x.dtype
        y = f * jnp.expand_dims(gain, pixels) + jnp.expand_dims(shift, pixels)
        return y.astype(dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over the whole batch, also where a pmap has split it.

    The variables, shapes and values of linen's BatchNorm (Ioffe & Szegedy 2015). Where an axis
    named `axis_name` is bound the statistics are averaged over it, so the number of devices
    changes nothing; under a plain jit the batch is the global one already.
    """

    momentum: float = 0.99
    epsilon: float = 1e-5
    axis_name: str | None = over_batch.DATA_AXIS
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        mean_ = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var_ = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        f = widen(x)
        if train:
            others = tuple(range(x.ndim - 1))
            moments = f.mean(others), jnp.square(f).mean(others)  # [C]
            moments = over_batch.mean(moments, self.axis_name)
            mean, var = moments[0], jnp.maximum(moments[1] - moments[0] ** 2, 0.0)
            if not self.is_initializing():
                mean_.value = self.momentum * mean_.value + (1 - self.momentum) * mean
                var_.value = self.momentum * var_.value + (1 - self.momentum) * var
        else:
            mean, var = mean_.value, var_.value
        gain = lax.rsqrt(var + self.epsilon) * scale
        others = tuple(range(x.ndim - 1))
        y = f * jnp.expand_dims(gain, others) + jnp.expand_dims(bias - mean * gain, others)
        return y.astype(self.dtype or x.dtype)


class MinibatchStddev(nn.Module):
    """x [B, ..., C] with one more channel: the mean deviation of its features over the minibatch.

    The new channel holds, at every example and pixel, mean_j √(var_b x[b, j] + ε) over all pixels
    and channels j, so that a critic sees a generator that repeats itself (Karras et al. 2018,
    section 3). The minibatch is the whole one: where an axis named `axis_name` is bound the moments
    are averaged over it. ε keeps the gradient finite where all examples are equal.
    """

    epsilon: float = 1e-8
    axis_name: str | None = over_batch.DATA_AXIS

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def mean(f: jax.Array) -> jax.Array:
            return over_batch.mean(f.mean(0), self.axis_name)

        f = widen(x)
        var = mean(jnp.square(f - mean(f)[None]))  # [..., C]
        deviation = jnp.sqrt(var + self.epsilon).mean()
        channel = jnp.full((*x.shape[:-1], 1), deviation, x.dtype)
        return jnp.concatenate([x, channel], axis=-1)
