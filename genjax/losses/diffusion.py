"""The denoising loss: DDPM, velocity, score matching, EDM and flow matching as its arguments."""

import jax
import jax.numpy as jnp


def _is_batch(key):
    """Whether key is one key per example rather than one key."""
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


def uniform(key, n):
    """t ~ U(0, 1), [n], never 0 nor 1, where log_snr may be infinite; key is one or [n] keys."""
    if _is_batch(key):
        draw = jax.vmap(lambda k: jax.random.uniform(k, (), jnp.float32))(key)
    else:
        draw = jax.random.uniform(key, (n,), jnp.float32)
    # Draws are multiples of 2⁻²³; half a cell more keeps them inside and centred.
    return draw + 2.0**-24


def denoising(
    predict, x, key, *, schedule, target, times=uniform, weight=jnp.ones_like
) -> jax.Array:
    """w(λ_t) · ‖target − predict(z_t, t)‖², z_t = α(t)·x + σ(t)·ε, for one t and ε per example.

    predict(z [B, ...], t [B]) -> an array of x's shape; x [B, ...]. schedule has alpha, sigma and
    log_snr (λ = log α²/σ²); target has of(x, eps, alpha, sigma). times is the array t [B], or
    draws it: times(key, n) -> [n]. weight(λ [B]) -> [B] multiplies the squared error of `target`
    itself: 1, the default, is Ho et al. 2020, eq. 14 ("simple") for noise, Salimans & Ho 2022 for
    velocity, Liu et al. 2022 and Lipman et al. 2022 for flow on rectified flow. Returns [B],
    summed over each example's elements in at least float32. Raises ValueError if shapes differ.
    """
    time_key, noise_key = _split(key, 2, x)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    t = times(time_key, x.shape[0]) if callable(times) else jnp.asarray(times)
    if t.shape != x.shape[:1]:
        raise ValueError(f"times must be [B]: got {t.shape} for x {x.shape}")
    clean = x.astype(dtype)
    eps = _normal(noise_key, x.shape, dtype)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    expand = (slice(None),) + (None,) * (x.ndim - 1)
    z = alpha[expand] * clean + sigma[expand] * eps
    prediction = predict(z.astype(x.dtype), t)
    if prediction.shape != x.shape:
        raise ValueError(f"predict must return x's shape {x.shape}, got {prediction.shape}")
    error = target.of(clean, eps, alpha, sigma) - prediction
    squared = jnp.sum(error**2, axis=tuple(range(1, x.ndim)), dtype=dtype)
    return weight(schedule.log_snr(t)) * squared
