"""Thresholding of the predicted data: functions for the `clip` argument of a sampler."""

import jax.numpy as jnp


def static(low: float = -1.0, high: float = 1.0):
    """x̂ ↦ min(max(x̂, low), high), each element for itself; low and high as x (Ho et al. 2020)."""

    def clip(data):
        return jnp.clip(data, low, high)

    return clip


def dynamic(quantile: float = 0.995, limit: float = 1.0):
    """x̂ ↦ min(max(x̂, −s), s) limit/s with s = max(limit, quantile of |x̂| over an example).

    x̂ is [B, ...] and s has one value per example. Where few elements leave [−limit, limit] this
    is static thresholding; where many do, they are drawn inwards instead of saturating. `quantile`
    in [0, 1], `limit` in the unit of x. Saharia et al. 2022 (Imagen), section 2.3.
    """

    def clip(data):
        size = jnp.abs(data).reshape(data.shape[0], -1)
        s = jnp.maximum(jnp.quantile(size.astype(jnp.float32), quantile, axis=1), limit)
        s = s.reshape((-1,) + (1,) * (data.ndim - 1)).astype(data.dtype)
        return jnp.clip(data, -s, s) * (limit / s)

    return clip
