"""Flow matching with a choice of coupling, and stochastic interpolants between two data sets."""

from collections.abc import Callable
from dataclasses import dataclass

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


def uniform(key, n):
    """t ~ U(0, 1), [n], never 0 nor 1; key is one or [n] keys."""
    if _is_batch(key):
        draw = jax.vmap(lambda k: jax.random.uniform(k, (), jnp.float32))(key)
    else:
        draw = jax.random.uniform(key, (n,), jnp.float32)
    return draw + 2.0**-24


def _times(times, key, x):
    t = times(key, x.shape[0]) if callable(times) else jnp.asarray(times)
    if t.shape != x.shape[:1]:
        raise ValueError(f"times must be [B]: got {t.shape} for x {x.shape}")
    return t


def _expand(scale, x):
    return scale.reshape(scale.shape + (1,) * (x.ndim - 1))


def _squared_error(predict, z, t, wanted, dtype):
    prediction = predict(z.astype(dtype), t)
    if prediction.shape != wanted.shape:
        raise ValueError(f"predict must return x's shape {wanted.shape}, got {prediction.shape}")
    return jnp.sum((wanted - prediction) ** 2, axis=tuple(range(1, wanted.ndim)))


def independent(x, eps, key):
    """eps as it was drawn; `couplings` has others."""
    return eps


def flow_matching(
    predict, x, key, *, times=uniform, couple=independent, sigma_min=0.0
) -> jax.Array:
    """‖(1 − s)·ε − x − predict(z_t, t)‖², z_t = (1 − t)·x + (s + (1 − s)·t)·ε, s = sigma_min.

    Lipman et al. 2022, "Flow Matching for Generative Modeling", with their time reversed: t = 0 is
    the data. predict(z [B, ...], t [B]) -> dz/dt of x's shape. times is t [B] or times(key, n);
    couple(x, eps, key) reorders the noise of the batch. Returns [B]. Raises ValueError if shapes
    differ. At s = 0 and with independent noise it is `denoising` of `flow` on rectified flow.
    """
    time_key, noise_key, couple_key = _split(key, 3, x)
    clean = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    t = _times(times, time_key, x)
    eps = couple(clean, _normal(noise_key, x.shape, clean.dtype), couple_key)
    sigma = _expand(sigma_min + (1 - sigma_min) * t, x)
    z = _expand(1 - t, x) * clean + sigma * eps
    return _squared_error(predict, z, t, (1 - sigma_min) * eps - clean, x.dtype)


@dataclass(frozen=True)
class Interpolant:
    """z_t = α(t)·x + β(t)·y + γ(t)·ε: x at t = 0, y at t = 1, latent noise in between.

    Albergo, Boffi & Vanden-Eijnden 2023, "Stochastic Interpolants". The three are functions of an
    array of times with α(0) = β(1) = 1, α(1) = β(0) = γ(0) = γ(1) = 0.
    """

    alpha: Callable
    beta: Callable
    gamma: Callable = jnp.zeros_like


linear = Interpolant(lambda t: 1 - t, lambda t: t)
"""α = 1 − t, β = t, γ = 0; with `brownian` as γ a Brownian bridge. Albergo et al. 2023."""

trigonometric = Interpolant(
    # cos(πt/2) as the sine of the complement, which keeps its digits near t = 1.
    lambda t: jnp.sin(0.5 * jnp.pi * (1 - t)),
    lambda t: jnp.sin(0.5 * jnp.pi * t),
)
"""α = cos(πt/2), β = sin(πt/2), γ = 0: keeps a variance that x and y share. Albergo et al. 2023."""

encoding_decoding = Interpolant(
    lambda t: jnp.where(t < 0.5, jnp.cos(jnp.pi * t) ** 2, 0.0),
    lambda t: jnp.where(t < 0.5, 0.0, jnp.cos(jnp.pi * t) ** 2),
    lambda t: jnp.sin(jnp.pi * t) ** 2,
)
"""α = cos²(πt) before t = ½ and 0 after, β the reverse, γ = sin²(πt): pure noise at t = ½.

Albergo et al. 2023.
"""


def brownian(scale=2.0) -> Callable:
    """γ(t) = √(scale·t·(1 − t)), a Brownian bridge's: its derivative is infinite at both ends.

    Albergo et al. 2023.
    """
    return lambda t: jnp.sqrt(scale * t * (1 - t))


def _interpolate(x, y, key, interpolant, times):
    if x.shape != y.shape:
        raise ValueError(f"x and y must have one shape: got {x.shape} and {y.shape}")
    time_key, noise_key = _split(key, 2, x)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    t = _times(times, time_key, x)
    parts = (x.astype(dtype), y.astype(dtype), _normal(noise_key, x.shape, dtype))
    scales = (interpolant.alpha, interpolant.beta, interpolant.gamma)
    pairs = [jax.jvp(scale, (t,), (jnp.ones_like(t),)) for scale in scales]
    z = sum(_expand(value, x) * part for (value, _), part in zip(pairs, parts, strict=True))
    velocity = sum(_expand(slope, x) * part for (_, slope), part in zip(pairs, parts, strict=True))
    return t, z, velocity, parts[2]


def interpolant_velocity(predict, x, y, key, *, interpolant=linear, times=uniform) -> jax.Array:
    """‖α'(t)·x + β'(t)·y + γ'(t)·ε − predict(z_t, t)‖², [B]: learns b = E[dz/dt | z].

    x and y [B, ...] are paired as they come. Albergo et al. 2023: their objective ½‖b‖² − b·dz/dt
    is half of this, less a constant. Raises ValueError if shapes differ.
    """
    t, z, velocity, _ = _interpolate(x, y, key, interpolant, times)
    return _squared_error(predict, z, t, velocity, x.dtype)


def interpolant_denoiser(predict, x, y, key, *, interpolant, times=uniform) -> jax.Array:
    """‖ε − predict(z_t, t)‖², [B]: learns η = E[ε | z], which gives the score −η/γ(t).

    b and the score together give SDEs with the same marginals as dz = b·dt. Albergo et al. 2023.
    Raises ValueError if shapes differ.
    """
    t, z, _, eps = _interpolate(x, y, key, interpolant, times)
    return _squared_error(predict, z, t, eps, x.dtype)
