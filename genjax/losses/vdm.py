"""The evidence lower bound of a diffusion in continuous (or discrete) time, by parts."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Elbo(NamedTuple):
    """The parts of −log p(x) ≤ prior + diffusion + reconstruction, each [B], in nats per image."""

    prior: jax.Array  # KL(q(z_1|x) ‖ N(0, I))
    diffusion: jax.Array  # an unbiased estimate, from one t and one noise per example
    reconstruction: jax.Array  # −log p(x|z_0)


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
    return scale.reshape(scale.shape + (1,) * (x.ndim - scale.ndim))


def _sum(values):
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def uniform(key, n):
    """t ~ U(0, 1), [n]; key is one or [n] keys. `times.LowDiscrepancy` has less variance."""
    if _is_batch(key):
        draw = jax.vmap(lambda k: jax.random.uniform(k, (), jnp.float32))(key)
    else:
        draw = jax.random.uniform(key, (n,), jnp.float32)
    return draw + 2.0**-24


def gaussian(x, scaled, log_snr):
    """−log N(x; z_0/α_0, 1/SNR_0), elementwise, in nats: for continuous data."""
    squared = jnp.exp(log_snr) * (scaled - x) ** 2
    return 0.5 * (squared - log_snr + math.log(2 * math.pi))


def categorical(values):
    """−log p(x|z_0) ∝ q(z_0|x) over the `values` [L] that an element of x can take, elementwise.

    Kingma et al. 2021, "Variational Diffusion Models", section 3.3; values =
    jnp.linspace(-1, 1, 256) for 8-bit images on [−1, 1]. It makes an array [B, ..., L].
    """

    def decoder(x, scaled, log_snr):
        candidates = jnp.reshape(values, (1,) * x.ndim + (-1,))
        exponent = -0.5 * jnp.exp(log_snr) * (scaled[..., None] - candidates) ** 2
        chosen = -0.5 * jnp.exp(log_snr) * (scaled - x) ** 2
        return jax.nn.logsumexp(exponent, axis=-1) - chosen

    return decoder


def elbo(predict, x, key, *, schedule, target, decoder, steps=None, times=uniform) -> Elbo:
    """KL(q(z_1|x) ‖ N(0, I)), ½·E[−λ'(t)·‖ε − ε̂(z_t, t)‖²] and −log p(x|z_0), each [B] in nats.

    With `steps` = T the second is T/2·E[(exp(λ_s − λ_t) − 1)·‖ε − ε̂‖²], t = ⌈uT⌉/T, s = t − 1/T.
    Kingma et al. 2021, "Variational Diffusion Models", sections 3 to 5. sum(elbo(...)) bounds
    −log p(x). predict(z [B, ...], t [B]) -> x's shape; ε̂ is what its prediction of `target`
    implies. schedule is any with finite λ(0) and λ(1); a learned one receives its gradient: of the
    ELBO for its ends, while inside only the variance depends on it (descend on the square of the
    loss). times draws t uniformly: uniform(key, n) or a low-discrepancy sampler.
    decoder(x, z_0/α_0, λ_0) -> elementwise −log p(x|z_0). Raises ValueError if shapes differ.
    """
    time_key, first_key, noise_key = _split(key, 3, x)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    clean = x.astype(dtype)
    start, end = jnp.zeros((), dtype), jnp.ones((), dtype)

    alpha, sigma = schedule.alpha(end), schedule.sigma(end)
    excess = (sigma - 1) * (sigma + 1)
    prior = 0.5 * _sum((alpha * clean) ** 2 + excess - jnp.log1p(excess))

    log_snr = schedule.log_snr(start)
    scaled = clean + jnp.exp(-0.5 * log_snr) * _normal(first_key, x.shape, dtype)
    reconstruction = _sum(decoder(clean, scaled, log_snr))

    t = times(time_key, x.shape[0])
    if t.shape != x.shape[:1]:
        raise ValueError(f"times must give [B]: got {t.shape} for x {x.shape}")
    if steps is None:
        rate = -schedule.log_snr_derivative(t)
    else:
        t = jnp.ceil(t * steps) / steps
        rate = steps * jnp.expm1(schedule.log_snr(t - 1 / steps) - schedule.log_snr(t))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    eps = _normal(noise_key, x.shape, dtype)
    z = _expand(alpha, x) * clean + _expand(sigma, x) * eps
    prediction = predict(z.astype(x.dtype), t)
    if prediction.shape != x.shape:
        raise ValueError(f"predict must return x's shape {x.shape}, got {prediction.shape}")
    error = eps - target.to_noise(prediction, z, alpha, sigma)
    return Elbo(prior, 0.5 * rate * _sum(error**2), reconstruction)
