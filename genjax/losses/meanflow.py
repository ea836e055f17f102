"""MeanFlow: learning the average velocity between two times, for generation in one step."""

import jax
import jax.numpy as jnp


def _is_batch(key):
    return key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)


def _split(key, n, x):
    if not _is_batch(key):
        return tuple(jax.random.split(key, n))
    if key.shape[0] != x.shape[0]:
        raise ValueError(f"give one key, or one per example: {key.shape[0]} keys for x {x.shape}")
    parts = jax.vmap(lambda k: jax.random.split(k, n))(key)
    return tuple(parts[:, i] for i in range(n))


def _normal(key, shape, dtype):
    if not _is_batch(key):
        return jax.random.normal(key, shape, dtype)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(key)


def _expand(scale, x):
    return scale.reshape(scale.shape + (1,) * (x.ndim - 1))


def logit_normal_pairs(mean=-0.4, std=1.0, distinct=0.25):
    """pairs(key, n) -> (r, t), r ≤ t, two draws of logit⁻¹(N(mean, std²)) put in order.

    r = t in all but a share `distinct` of the examples, which learn the velocity itself. The
    defaults are Geng et al. 2025's for ImageNet.
    """

    def draw(key, shape):
        pair_key, equal_key = jax.random.split(key)
        logits = mean + std * jax.random.normal(pair_key, (*shape, 2), jnp.float32)
        pair = jax.nn.sigmoid(logits)
        low, high = jnp.min(pair, axis=-1), jnp.max(pair, axis=-1)
        return jnp.where(jax.random.bernoulli(equal_key, distinct, shape), low, high), high

    def pairs(key, n):
        return jax.vmap(lambda k: draw(k, ()))(key) if _is_batch(key) else draw(key, (n,))

    return pairs


def meanflow(predict, x, key, *, times, guide=None, power=1.0, constant=1e-3) -> jax.Array:
    """‖Δ‖² / sg(‖Δ‖² + c)^p, Δ = u(z_t, r, t) − sg(v − (t − r)·(v·∂_z u + ∂_t u)), v = ε − x.

    z_t = (1 − t)·x + t·ε. Geng et al. 2025, "Mean Flows for One-step Generative Modeling". u =
    predict(z [B, ...], r [B], t [B]) -> x's shape is the mean velocity from r to t, so that a
    sample is ε − u(ε, 0, 1). times is a pair (r, t) of [B], or draws one: `logit_normal_pairs()`.
    guide(z, t, v) -> a guided v, such as w·v + (1 − w)·u(z, t, t) without condition; gradients
    stop there.
    power = 0 leaves the plain ‖Δ‖²; otherwise the value says little, being near 1. Returns [B].
    Raises ValueError if shapes differ.
    """
    time_key, noise_key = _split(key, 2, x)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    r, t = times(time_key, x.shape[0]) if callable(times) else map(jnp.asarray, times)
    if not r.shape == t.shape == x.shape[:1]:
        raise ValueError(f"times must be two arrays [B]: {r.shape}, {t.shape} for x {x.shape}")
    clean, eps = x.astype(dtype), _normal(noise_key, x.shape, dtype)
    z = (_expand(1 - t, x) * clean + _expand(t, x) * eps).astype(x.dtype)
    velocity = eps - clean
    if guide is not None:
        velocity = jax.lax.stop_gradient(guide(z, t, velocity))
    tangents = (velocity.astype(x.dtype), jnp.zeros_like(r), jnp.ones_like(t))
    u, change = jax.jvp(predict, (z, r, t), tangents)
    if u.shape != x.shape:
        raise ValueError(f"predict must return x's shape {x.shape}, got {u.shape}")
    wanted = jax.lax.stop_gradient(velocity - _expand(t - r, x) * change)
    squared = jnp.sum((u - wanted) ** 2, axis=tuple(range(1, x.ndim)))
    return squared / jax.lax.stop_gradient((squared + constant) ** power)
