"""The variational bound of a discrete diffusion by parts, learned variances and the hybrid loss."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr


class Vlb(NamedTuple):
    """The parts of −log p(x) ≤ prior + transitions + decoder, each [B], in nats per image."""

    prior: jax.Array  # L_T = KL(q(z_T|x) ‖ N(0, I))
    transitions: jax.Array  # Σ_{i=2..T} L_{i-1} = KL(q(z_{i-1}|z_i, x) ‖ p(z_{i-1}|z_i))
    decoder: jax.Array  # L_0 = −log p(x|z_1)


def bits_per_dim(nats, shape):
    """nats / (ln 2 · D), D the number of elements of one example of shape [B, ...]."""
    return nats / (math.log(2) * math.prod(shape[1:]))


def _is_batch(key):
    return key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)


def _fold(key, data):
    if _is_batch(key):
        return jax.vmap(lambda k: jax.random.fold_in(k, data))(key)
    return jax.random.fold_in(key, data)


def _normal(key, shape, dtype):
    if not _is_batch(key):
        return jax.random.normal(key, shape, dtype)
    if key.shape[0] != shape[0]:
        raise ValueError(f"give one key, or one per example: {key.shape[0]} keys for x {shape}")
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(key)


def _expand(scale, x):
    return scale.reshape(scale.shape + (1,) * (x.ndim - 1))


def _sum(values):
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


# Variances of p(z_{i-1}|z_i): (fraction, log β̃_i, log β_i, i) -> log variance. β_i is the variance
# of q(z_i|z_{i-1}) and β̃_i that of q(z_{i-1}|z_i, x); β̃_1 = 0 is replaced by β̃_2.


def small(fraction, log_small, log_large, step):
    """β̃_i: exact if x were known. Ho et al. 2020, section 3.2."""
    return log_small


def large(fraction, log_small, log_large, step):
    """β_i, and β̃_2 for the first step: exact for x ~ N(0, I). Ho et al. 2020 and their code."""
    return jnp.where(step == 1, log_small, log_large)


def learned(fraction, log_small, log_large, step):
    """exp(v·log β_i + (1 − v)·log β̃_i) with v = fraction. Nichol & Dhariwal 2021, eq. 15."""
    return fraction * log_large + (1 - fraction) * log_small


def gaussian(x, mean, log_var):
    """−log N(x; mean, exp(log_var)), elementwise, in nats: L_0 for continuous data."""
    return 0.5 * ((x - mean) ** 2 * jnp.exp(-log_var) + log_var + math.log(2 * math.pi))


def discretized_gaussian(x, mean, log_var, levels=256):
    """−log of the mass of N(mean, exp(log_var)) in x's bin, elementwise, in nats.

    x is one of `levels` equally spaced values on [−1, 1]; a bin reaches half way to the next
    value, the outer ones to ±∞. Ho et al. 2020, eq. 13.
    """
    half = 1 / (levels - 1)
    precision = jnp.exp(-0.5 * log_var)
    # Beyond 1e18 the squares leave float32.
    m, h = (jnp.clip(v * precision, -1e18, 1e18) for v in (x - mean, half))
    inner = _log_bin(jnp.abs(m), h)
    return -jnp.where(
        x < half - 1, _log_tail(-m - h), jnp.where(x > 1 - half, _log_tail(m - h), inner)
    )


def _tail_series(y):
    """log(1 − 1/y² + 3/y⁴ − 15/y⁶ + 105/y⁸), for y ≥ 10 exact in float32."""
    u = (1 / y) ** 2
    return jnp.log1p(-u * (1 - 3 * u * (1 - 5 * u * (1 - 7 * u))))


def _log_tail(y):
    """log Φ(−y)."""
    # The derivative of jax's log_ndtr is a quotient of huge exponentials and is wrong far out.
    body, tail = jnp.minimum(y, 10.0), jnp.maximum(y, 10.0)
    far = -0.5 * tail**2 - jnp.log(tail) - 0.5 * math.log(2 * math.pi) + _tail_series(tail)
    return jnp.where(y > 10, far, log_ndtr(-body))


def _log_bin(m, h):
    """log(Φ(m + h) − Φ(m − h)) for m ≥ 0."""
    # A narrow bin is a difference of nearly equal numbers: Gauss-Legendre with three nodes.
    narrow = h * (1 + m) < 0.25
    m_narrow, h_narrow = jnp.where(narrow, m, 0.0), jnp.where(narrow, h, 0.1)
    node = h_narrow * math.sqrt(3 / 5)
    mean_ratio = (4 + 5 * jnp.exp(-0.5 * node**2) * jnp.cosh(m_narrow * node)) / 9
    area = jnp.log(2 * h_narrow) - 0.5 * math.log(2 * math.pi) + jnp.log(mean_ratio)
    # A wide one by its ends, log Φ(−(m − h)) + log(1 − exp(−gap)). Far out gap is the difference
    # of two huge numbers, so the leading −y²/2 of log Φ is subtracted by hand there.
    near, far = m - h, m + h
    a, b = jnp.maximum(near, 10.0), jnp.maximum(far, 10.0)
    gap_tail = 2 * h * m + jnp.log(b / a) + _tail_series(a) - _tail_series(b)
    gap_body = _log_tail(jnp.minimum(near, 10.0)) - _log_tail(far)
    gap = jnp.where(narrow, 1.0, jnp.where(near > 10, gap_tail, gap_body))
    wide = _log_tail(near) + jnp.log(-jnp.expm1(-gap))
    return jnp.where(narrow, area - 0.5 * m_narrow**2, wide)


def prior(x, *, schedule):
    """L_T = KL(N(α_1·x, σ_1²) ‖ N(0, I)) at t = 1, [B] in nats. Ho et al. 2020, eq. 5."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    end = jnp.ones((), x.dtype)
    alpha, sigma = schedule.alpha(end), schedule.sigma(end)
    excess = (sigma - 1) * (sigma + 1)
    return 0.5 * _sum((alpha * x) ** 2 + excess - jnp.log1p(excess))


class _Step(NamedTuple):
    """One step i of every example: the network's input and what the term needs of q."""

    step: jax.Array  # [B] 1 … steps
    t: jax.Array  # [B]
    x: jax.Array
    eps: jax.Array
    z: jax.Array


def _diffuse(x, key, step, schedule, steps):
    if steps < 2:
        raise ValueError(f"the bound by parts needs at least 2 steps, got {steps}")
    if step.shape != x.shape[:1]:
        raise ValueError(f"step must be [B]: got {step.shape} for x {x.shape}")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    eps = _normal(key, x.shape, x.dtype)
    t = (step / steps).astype(x.dtype)
    z = _expand(schedule.alpha(t), x) * x + _expand(schedule.sigma(t), x) * eps
    return _Step(step, t, x, eps, z)


def _call(predict, at, dtype, variance):
    output = predict(at.z.astype(dtype), at.t)
    prediction, fraction = output if isinstance(output, tuple) else (output, None)
    if prediction.shape != at.x.shape:
        raise ValueError(f"predict must return x's shape {at.x.shape}, got {prediction.shape}")
    if fraction is None and variance is learned:
        raise ValueError("a learned variance needs predict(z, t) -> (prediction, fraction)")
    return prediction, fraction


def _term(prediction, fraction, at, schedule, target, steps, variance, decoder, clip):
    """L_0 where step is 1, else L_{step-1}: [B]."""
    x = at.x
    alpha, sigma = schedule.alpha(at.t), schedule.sigma(at.t)
    estimate = target.to_data(prediction, at.z, alpha, sigma)
    if clip is not None:
        estimate = jnp.clip(estimate, *clip)
    # The first step has no posterior of its own and borrows the second's.
    later = jnp.maximum(at.step, 2)
    t, s = (later / steps).astype(x.dtype), ((later - 1) / steps).astype(x.dtype)
    alpha_s, sigma_s, sigma_t = schedule.alpha(s), schedule.sigma(s), schedule.sigma(t)
    kept = schedule.alpha(t) * sigma_s / (alpha_s * sigma_t)  # √(SNR_t / SNR_s)
    lost = (1 - kept) * (1 + kept)
    log_small = jnp.log(sigma_s**2 * lost)
    log_large = jnp.log(jnp.where(at.step == 1, sigma**2, sigma_t**2 * lost))
    log_small, log_large, step = (_expand(v, x) for v in (log_small, log_large, at.step))
    log_var = variance(fraction, log_small, log_large, step)
    # Both means hold the same share of z: their difference is that of x alone.
    difference = _expand(alpha_s * lost, x) * (x - estimate)
    ratio = log_small - log_var
    kl = 0.5 * _sum(jnp.expm1(ratio) - ratio + difference**2 * jnp.exp(-log_var))
    log_var = jnp.broadcast_to(log_var, x.shape)
    return jnp.where(at.step == 1, _sum(decoder(x, estimate, log_var)), kl)


def term(
    predict, x, key, step, *, schedule, target, steps,
    variance=small, decoder=discretized_gaussian, clip=None,
) -> jax.Array:  # fmt: skip
    """One part of the bound per example, [B] in nats: L_0 where step is 1, else L_{step-1}.

    Ho et al. 2020, eq. 5: L_{i-1} = KL(q(z_{i-1}|z_i, x) ‖ p(z_{i-1}|z_i)), L_0 = −log p(x|z_1),
    with z_i at t = i/steps; σ(0) = 0 is assumed. step is [B] of 1 … steps: `steps` times the term
    at a uniform step estimates transitions + decoder. predict(z, t) -> prediction, or (prediction,
    fraction) for a learned variance, both of x's shape [B, ...]. clip = (low, high) bounds the
    estimate of x, as Ho et al. do at test time. Raises ValueError if shapes differ.
    """
    at = _diffuse(x, key, jnp.asarray(step), schedule, steps)
    prediction, fraction = _call(predict, at, x.dtype, variance)
    return _term(prediction, fraction, at, schedule, target, steps, variance, decoder, clip)


def vlb(
    predict, x, key, *, schedule, target, steps,
    variance=small, decoder=discretized_gaussian, clip=None,
) -> Vlb:  # fmt: skip
    """Every part of the bound, one noise each: steps calls of the network in one scan.

    sum(vlb(...)) is the bound on −log p(x) in nats, [B]; `bits_per_dim` turns it. The arguments
    are those of `term`. Ho et al. 2020, eq. 5.
    """

    def at(step):
        steps_of_all = jnp.full(x.shape[:1], step)
        return term(
            predict, x, _fold(key, step), steps_of_all, schedule=schedule, target=target,
            steps=steps, variance=variance, decoder=decoder, clip=clip,
        )  # fmt: skip

    def add(total, step):
        return total + at(step), None

    decoded = at(1)
    total, _ = jax.lax.scan(add, jnp.zeros_like(decoded), jnp.arange(2, steps + 1))
    return Vlb(prior(x, schedule=schedule), total, decoded)


def hybrid(
    predict, x, key, step, *, schedule, target, steps, weight=1e-3,
    variance=learned, decoder=discretized_gaussian,
) -> jax.Array:  # fmt: skip
    """L_simple + weight·steps·L_{step-1}, [B]; the second part trains the variance alone.

    predict(z, t) -> (prediction, fraction); the prediction is stopped in the bound. step is [B],
    drawn uniformly from 1 … steps. Nichol & Dhariwal 2021, eq. 16. Both parts are summed over the
    image and the bound is in nats; their code counts it in bits: weight = 1e-3 / ln 2.
    """
    at = _diffuse(x, key, jnp.asarray(step), schedule, steps)
    prediction, fraction = _call(predict, at, x.dtype, variance)
    wanted = target.of(at.x, at.eps, schedule.alpha(at.t), schedule.sigma(at.t))
    simple = _sum((wanted - prediction) ** 2)
    stopped = jax.lax.stop_gradient(prediction)
    bound = _term(stopped, fraction, at, schedule, target, steps, variance, decoder, None)
    return simple + weight * steps * bound
