"""Normalisation, and statistics of the global batch, independent of the number of devices."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from genjax import over_batch
from genjax.numerics import widen


class GroupNorm(nn.Module):
    r"""Group normalisation: linen's GroupNorm, with the same parameters and values.

    $$
    y = \frac{x - \mu}{\sqrt{v + \varepsilon}} \cdot \mathrm{scale} + \mathrm{bias}
    $$

    with mean μ and variance v over each group of channels and all pixels, in float32 at least.

    Args:
      groups: number of groups, a divisor of C.
      epsilon: ε.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, ..., C]: y, of the same shape.

    Raises:
      ValueError: where C does not divide into the groups.

    References:
      Wu & He, "Group Normalization" (2018), arXiv:1803.08494.
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

        # Reduces over pixels, then over a group's channels on [B, C]: XLA's CPU backend is several
        # times slower at reducing the five-dimensional array, or two stacked moments.
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


def most_groups(channels: int, most: int = 32) -> int:
    """The most groups, up to some number, of four channels or more.

    Args:
      channels: of the layer.
      most: groups.

    Returns:
      A divisor of `channels`.
    """
    limit = max(1, min(most, channels // 4))
    return next(n for n in range(limit, 0, -1) if channels % n == 0)


class BatchNorm(nn.Module):
    """Batch normalisation over the global batch: linen's BatchNorm, with the same variables.

    The statistics are averaged over the axis `axis_name` where it is mapped, so that the number of
    devices changes nothing; under `jax.jit` the batch is the global one already.

    Args:
      momentum: of the running statistics.
      epsilon: added to the variance.
      axis_name: the mapped axis that splits the batch.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, ..., C]: x normalised over all axes but the last. `train` takes the statistics of
      the batch and updates the running ones in "batch_stats", which are used otherwise.

    References:
      Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
      Covariate Shift" (2015), arXiv:1502.03167.
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
    r"""Appends the standard deviation over the minibatch as a channel, for a critic.

    $$
    \operatorname{mean}_j \sqrt{\operatorname{var}_b\, x_{b,j} + \varepsilon}
    $$

    over all pixels and channels j, the same number at every example and pixel, by which a critic
    detects mode collapse. The minibatch is the global one: the moments are averaged over the axis
    `axis_name` where it is mapped.

    Args:
      epsilon: ε; it keeps the gradient finite where all examples are equal.
      axis_name: the mapped axis that splits the batch.

    Returns:
      From x [B, ..., C]: [B, ..., C + 1].

    References:
      Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation"
      (2018), arXiv:1710.10196, section 3.
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
