"""Importance-weighted bounds of a VAE: IWAE, its doubly reparameterised gradient, log p(x)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Encode = Callable[[Array], tuple[Array, Array]]


class Estimate(NamedTuple):
    """An importance-sampled log p(x) [B], nats per image, and how many samples carried it [B]."""

    log_likelihood: Array
    effective_samples: Array


def iwae(
    encode: Encode,
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    samples: int,
) -> Array:
    """−log 1/k Σ_i w_i with w_i = p(x|z_i) p(z_i)/q(z_i|x), z_i ~ q(z|x); k = samples.

    encode(x) -> (mean, log_var), each [B, ...]; decode(z) -> parameters; nll(parameters, x) -> [B];
    p(z) = N(0, I); key: one, or one per image, [B]. Gives [B], nats per image, an upper bound of
    −log p(x) in expectation; at k = 1, −ELBO with a sampled KL. Its gradient weighs sample i by
    softmax(log w)_i. Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016),
    equation 8.
    """
    log_w = log_weights(encode, decode, x, key, nll=nll, samples=samples)
    return math.log(samples) - jax.nn.logsumexp(log_w, axis=0)


def dreg(
    encode: Encode,
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    samples: int,
) -> Array:
    """The value of iwae, with the doubly reparameterised gradient for the encoder.

    Arguments and result as iwae's. The decoder's gradient is iwae's, Σ w̃_i ∂log w_i; the encoder's
    is Σ w̃_i² ∂log w_i/∂z_i ∂z_i/∂φ with w̃ = softmax(log w): as unbiased, and its signal does not
    drown as k grows. At k = 1 it is sticking the landing (Roeder et al., 2017). First derivatives
    only. Tucker et al., "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives"
    (2019).
    """
    mean, log_var = _posterior(encode, x)
    sg = jax.lax.stop_gradient
    fixed_mean, fixed_log_var = sg(mean), sg(log_var)
    noise = _sample_noise(key, mean.shape, jnp.arange(samples))
    # z in units of the fixed posterior: worth exactly the noise, but moving with mean and log_var.
    # (z − μ)/σ in its place would cancel as σ → 0.
    shift = _widen(mean - fixed_mean) * _exp(-0.5 * _widen(fixed_log_var))
    moving = noise + shift[None] + 0.5 * noise * _widen(log_var - fixed_log_var)[None]

    def weights(u: Array) -> Array:
        return _log_weights(u, fixed_mean, fixed_log_var, decode, x, nll)

    # Both calls have equal values, and XLA merges them: the decoder runs once.
    normalized = jax.nn.softmax(sg(weights(sg(moving))), axis=0)
    log_w = weights(_scale_gradient(moving, normalized))
    surrogate = -jnp.sum(normalized * log_w, axis=0)
    value = math.log(samples) - jax.nn.logsumexp(sg(log_w), axis=0)
    return value + surrogate - sg(surrogate)


def log_likelihood(
    encode: Encode,
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    samples: int = 5000,
    chunk: int = 50,
) -> Estimate:
    """log p(x) ≈ log 1/k Σ_i w_i, in expectation from below, by `chunk` samples at a time.

    Arguments as iwae's; memory is that of `chunk` samples, and the samples are iwae's whatever the
    chunk. Gives Estimate(log_likelihood [B], effective_samples [B]), nats per image: where few
    samples are effective the estimate is low by nats. Made for evaluation, without gradient.
    Burda et al. (2016), section 5.
    """
    mean, log_var = _posterior(encode, x)
    chunk = min(chunk, samples)

    def add(totals: tuple, start: Array) -> tuple[tuple, None]:
        index = start + jnp.arange(chunk)
        noise = _sample_noise(key, mean.shape, index)
        log_w = _log_weights(noise, mean, log_var, decode, x, nll)
        log_w = jnp.where((index < samples)[:, None], log_w, -jnp.inf)
        # Sums of w and w² in units of the largest w so far: logarithms of the sums would keep
        # fewer digits of their ratio the larger |log w| is.
        top, first, second = totals
        new_top = jnp.maximum(top, jnp.max(log_w, axis=0))
        shrink, w = jnp.exp(top - new_top), jnp.exp(log_w - new_top[None])
        first = first * shrink + jnp.sum(w, axis=0)
        return (new_top, first, second * shrink**2 + jnp.sum(w**2, axis=0)), None

    zero = jnp.zeros(x.shape[0], _widen(mean).dtype)
    start = (jnp.full_like(zero, jnp.finfo(zero.dtype).min), zero, zero)
    (top, first, second), _ = jax.lax.scan(add, start, jnp.arange(0, samples, chunk))
    estimate = Estimate(top + jnp.log(first) - math.log(samples), first**2 / second)
    return jax.lax.stop_gradient(estimate)


def log_weights(
    encode: Encode,
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    samples: int,
) -> Array:
    """log w_i = log p(x|z_i) + log p(z_i) − log q(z_i|x) for iwae's samples: [k, B], nats.

    Arguments as iwae's. Burda et al. (2016).
    """
    mean, log_var = _posterior(encode, x)
    noise = _sample_noise(key, mean.shape, jnp.arange(samples))
    return _log_weights(noise, mean, log_var, decode, x, nll)


def effective_sample_size(log_w: Array) -> Array:
    """(Σw)²/Σw² from log w over the first axis: [k, B] -> [B], 1 (one has all) … k (all equal).

    Kong, "A Note on Importance Sampling Using Standardized Weights" (1992).
    """
    return 1 / jnp.sum(jax.nn.softmax(log_w, axis=0) ** 2, axis=0)


def _posterior(encode: Encode, x: Array) -> tuple[Array, Array]:
    mean, log_var = encode(x)
    if mean.shape != log_var.shape or mean.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"give mean and log_var one shape [B, ...]: mean has {mean.shape}, log_var has "
            f"{log_var.shape}, x has {x.shape}"
        )
    return mean, log_var


def _log_weights(noise, mean, log_var, decode, x, nll) -> Array:
    """noise: [k, B, ...], z = μ + σ·noise -> [k, B]."""
    wide_log_var = _widen(log_var)
    z = _widen(mean)[None] + _exp(0.5 * wide_log_var)[None] * noise
    # log q takes ε itself and not (z − μ)/σ; the log 2π of p(z) and q cancel.
    log_ratio = 0.5 * (noise**2 + wide_log_var[None] - z**2)
    log_ratio = jnp.sum(log_ratio, axis=tuple(range(2, z.ndim)))
    return log_ratio - jax.vmap(lambda z: nll(decode(z), x))(z.astype(mean.dtype))


@jax.custom_jvp
def _scale_gradient(a: Array, scale: Array) -> Array:
    """a, whose gradient is multiplied by scale [k, B]."""
    return a


@_scale_gradient.defjvp
def _(primals, tangents):
    a, scale = primals
    return a, tangents[0] * scale.reshape(scale.shape + (1,) * (a.ndim - scale.ndim))


def _sample_noise(key: Array, shape: tuple[int, ...], index: Array) -> Array:
    """Noise [k, *shape] for the samples numbered `index` [k], whatever the other numbers are."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim and key.shape != shape[:1]:
        raise ValueError(f"give one key, or one per example: {key.shape} keys for shape {shape}")

    def draw(key: Array, shape: tuple[int, ...]) -> Array:
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(index)

    if key.ndim == 0:
        return draw(key, shape)
    return jax.vmap(lambda k: draw(k, shape[1:]), out_axes=1)(key)


def _exp(a: Array) -> Array:
    # Past e^30 its tangent: finite, with a gradient that still points home, where exp gives inf.
    return jnp.exp(jnp.minimum(a, 30)) * (1 + jnp.maximum(a - 30, 0))


def _widen(a: Array) -> Array:
    """At least float32: sums and exponentials in bfloat16 would lose the answer."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
