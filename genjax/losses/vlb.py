"""The variational bound of a discrete diffusion by parts, learned variances and the hybrid loss."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import log_ndtr

from genjax import keys
from genjax.numerics import (
    check_floats,
    check_has,
    check_prediction,
    check_static,
    expand,
    is_traced,
    kl_to_standard_normal,
    sum_per_example,
    widen,
)


class Bound(NamedTuple):
    """The parts of −log p(x) ≤ prior + transitions + decoder, in nats per image.

    Attributes:
      prior: L_T = KL(q(z_T|x) ‖ N(0, I)), [B].
      transitions: Σ_{i=2..T} L_{i-1} = KL(q(z_{i-1}|z_i, x) ‖ p(z_{i-1}|z_i)), [B].
      decoder: L_0 = −log p(x|z_1), [B].
    """

    prior: Array
    transitions: Array
    decoder: Array


def bits_per_dim(nats: Array, shape: tuple[int, ...]) -> Array:
    r"""Nats per image as bits per dimension.

    $$
    \frac{\mathrm{nats}}{D \ln 2}
    $$

    Args:
      nats: per image, any shape.
      shape: of the batch, (B, ...); D is the number of elements of one example.

    Returns:
      Like `nats`.
    """
    return nats / (math.log(2) * math.prod(shape[1:]))


# Variances of p(z_{i-1}|z_i): (fraction, log β̃_i, log β_i, i) -> log variance. β_i is the variance
# of q(z_i|z_{i-1}) and β̃_i that of q(z_{i-1}|z_i, x); β̃_1 = 0 is replaced by β̃_2.


def small(fraction: Array | None, log_small: Array, log_large: Array, step: Array) -> Array:
    r"""The lower bound of the reverse variance: exact if x were known.

    $$
    \sigma_i^2 = \tilde\beta_i
    $$

    Args:
      fraction: not used.
      log_small: ln β̃_i.
      log_large: ln β_i.
      step: i.

    Returns:
      The log variance.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, section 3.2.
    """
    return log_small


def large(fraction: Array | None, log_small: Array, log_large: Array, step: Array) -> Array:
    r"""The upper bound of the reverse variance: exact for x ~ N(0, I).

    $$
    \sigma_i^2 = \beta_i, \qquad \sigma_1^2 = \tilde\beta_2
    $$

    Args:
      fraction: not used.
      log_small: ln β̃_i.
      log_large: ln β_i.
      step: i.

    Returns:
      The log variance.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, section 3.2
        and their code.
    """
    return jnp.where(step == 1, log_small, log_large)


def learned(fraction: Array, log_small: Array, log_large: Array, step: Array) -> Array:
    r"""A reverse variance between its bounds, where the network says.

    $$
    \sigma_i^2 = \exp\bigl(v \ln \beta_i + (1 - v) \ln \tilde\beta_i\bigr)
    $$

    Args:
      fraction: v, the network's second output, of x's shape.
      log_small: ln β̃_i.
      log_large: ln β_i.
      step: i.

    Returns:
      The log variance.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
        arXiv:2102.09672, eq. 15.
    """
    return fraction * log_large + (1 - fraction) * log_small


def continuous_gaussian(x: Array, mean: Array, log_var: Array) -> Array:
    r"""L_0 of continuous data.

    $$
    -\ln N(x; \mathrm{mean}, e^{\mathrm{log\_var}})
    $$

    Args:
      x: clean data, [B, ...].
      mean: of p(x|z_1), [B, ...].
      log_var: its log variance, broadcast against x.

    Returns:
      Nats, elementwise, [B, ...].
    """
    return 0.5 * ((x - mean) ** 2 * jnp.exp(-log_var) + log_var + math.log(2 * math.pi))


def discretized_gaussian(x: Array, mean: Array, log_var: Array, levels: int = 256) -> Array:
    r"""L_0 of integer levels: the mass of a Gaussian in the bin of x.

    $$
    -\ln \int_{\delta_-(x)}^{\delta_+(x)} N(u; \mathrm{mean}, e^{\mathrm{log\_var}}) \, du
    $$

    A bin reaches half way to the next level, the outer ones to ±∞.

    Args:
      x: one of `levels` equally spaced values in −1..1, [B, ...].
      mean: of p(x|z_1), [B, ...].
      log_var: its log variance, of x's shape.
      levels: number of values, 256 for 8 bits.

    Returns:
      Nats, elementwise, [B, ...].

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 13.
    """
    half = 1 / (levels - 1)
    # Beyond 1e18 the squares leave float32; below e^36.8 the bin's width stays far from that.
    precision = jnp.exp(jnp.minimum(-0.5 * log_var, 36.8))
    m, h = jnp.clip((x - mean) * precision, -1e18, 1e18), half * precision
    inner = _log_bin(jnp.abs(m), h)
    return -jnp.where(
        x < half - 1, _log_tail(-m - h), jnp.where(x > 1 - half, _log_tail(m - h), inner)
    )


def _tail_series(y: Array) -> Array:
    """log(1 − 1/y² + 3/y⁴ − 15/y⁶ + 105/y⁸), for y ≥ 10 exact in float32."""
    u = (1 / y) ** 2
    return jnp.log1p(-u * (1 - 3 * u * (1 - 5 * u * (1 - 7 * u))))


def _log_tail(y: Array) -> Array:
    """log Φ(−y)."""
    # The derivative of jax's log_ndtr is a quotient of huge exponentials and is wrong far out.
    body, tail = jnp.minimum(y, 10.0), jnp.maximum(y, 10.0)
    far = -0.5 * tail**2 - jnp.log(tail) - 0.5 * math.log(2 * math.pi) + _tail_series(tail)
    return jnp.where(y > 10, far, log_ndtr(-body))


def _log_bin(m: Array, h: Array) -> Array:
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


def prior(x: Array, *, schedule: Any) -> Array:
    r"""L_T, which no network changes.

    $$
    D_{KL}\bigl(N(\alpha_1 x, \sigma_1^2) \,\Vert\, N(0, I)\bigr)
    $$

    Args:
      x: clean data, [B, ...].
      schedule: the noise schedule, with alpha and sigma.

    Returns:
      [B], in nats per image.

    Raises:
      TypeError: where `schedule` is a class or a name in place of an object.
      ValueError: where x is of integers.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 5.
    """
    check_floats(x=x)
    check_has("alpha sigma", "discrete_schedules.DiscreteLinear()", schedule=schedule)
    x = widen(x)
    end = jnp.ones((), x.dtype)
    return sum_per_example(kl_to_standard_normal(schedule.alpha(end) * x, schedule.sigma(end)))


class _Step(NamedTuple):
    """One step i of every example: the network's input and what the term needs of q."""

    step: Array  # [B] 1 … steps
    t: Array  # [B]
    x: Array
    eps: Array
    z: Array


def _diffuse(x: Array, key: Array, step: Array, schedule: Any, target: Any, steps: int) -> _Step:
    check_floats(x=x)
    check_has("alpha sigma", "discrete_schedules.DiscreteLinear()", schedule=schedule)
    check_has("of to_data", "predictions.noise", target=target)
    if not is_traced(steps) and steps < 2:
        raise ValueError(f"the bound by parts needs at least 2 steps, got {steps}")
    if step.shape != x.shape[:1]:
        raise ValueError(f"step must be [B]: got {step.shape} for x {x.shape}")
    if not jnp.issubdtype(step.dtype, jnp.integer):
        raise ValueError(f"step must be integers in 1..steps, not times: got {step.dtype}")
    if not is_traced(step, steps):
        with jax.ensure_compile_time_eval():
            if bool(((step < 1) | (step > steps)).any()):
                raise ValueError(f"step must be integers in 1..{steps}, got {step}")
    x = widen(x)
    eps = keys.normal(key, x.shape, x.dtype)
    t = (step / steps).astype(x.dtype)
    z = expand(schedule.alpha(t), x) * x + expand(schedule.sigma(t), x) * eps
    return _Step(step, t, x, eps, z)


def _call(
    predict: Callable[[Array, Array], Any], at: _Step, dtype: jnp.dtype, variance: Callable
) -> tuple[Array, Array | None]:
    output = predict(at.z.astype(dtype), at.t)
    prediction, fraction = output if isinstance(output, tuple) else (output, None)
    check_prediction(prediction, at.x)
    if fraction is None and variance is learned:
        raise ValueError("a learned variance needs predict(z, t) -> (prediction, fraction)")
    return prediction, fraction


def _term(
    prediction: Array,
    fraction: Array | None,
    at: _Step,
    schedule: Any,
    target: Any,
    steps: int,
    variance: Callable[..., Array],
    decoder: Callable[[Array, Array, Array], Array],
    clip: tuple[float, float] | None,
) -> Array:
    """L_0 where step is 1, else L_{step-1}: [B]."""
    x = at.x
    alpha, sigma = schedule.alpha(at.t), schedule.sigma(at.t)
    estimate = target.to_data(prediction, at.z, alpha, sigma)
    if clip is not None:
        if not isinstance(clip, tuple | list | jax.Array) or len(clip) != 2:
            raise TypeError(f"clip must be (low, high) or None, not {clip!r}")
        estimate = jnp.clip(estimate, *clip)
    # The first step has no posterior of its own and borrows the second's.
    later = jnp.maximum(at.step, 2)
    t, s = (later / steps).astype(x.dtype), ((later - 1) / steps).astype(x.dtype)
    alpha_s, sigma_s, sigma_t = schedule.alpha(s), schedule.sigma(s), schedule.sigma(t)
    root_snr_ratio = schedule.alpha(t) * sigma_s / (alpha_s * sigma_t)  # √(SNR_t / SNR_s)
    lost = (1 - root_snr_ratio) * (1 + root_snr_ratio)
    log_small = jnp.log(sigma_s**2 * lost)
    log_large = jnp.log(jnp.where(at.step == 1, sigma**2, sigma_t**2 * lost))
    log_small, log_large, step = (expand(v, x) for v in (log_small, log_large, at.step))
    log_var = variance(fraction, log_small, log_large, step)
    # Both means hold the same share of z: their difference is that of x alone.
    difference = expand(alpha_s * lost, x) * (x - estimate)
    ratio = log_small - log_var
    kl = 0.5 * sum_per_example(jnp.expm1(ratio) - ratio + difference**2 * jnp.exp(-log_var))
    log_var = jnp.broadcast_to(log_var, x.shape)
    value = jnp.where(at.step == 1, sum_per_example(decoder(x, estimate, log_var)), kl)
    # A traced step outside cannot raise.
    return jnp.where((at.step < 1) | (at.step > steps), jnp.nan, value)


def term(
    predict: Callable[[Array, Array], Any],
    x: Array,
    key: Array,
    step: Array,
    *,
    schedule: Any,
    target: Any,
    steps: int,
    variance: Callable[..., Array] = small,
    decoder: Callable[[Array, Array, Array], Array] = discretized_gaussian,
    clip: tuple[float, float] | None = None,
) -> Array:
    r"""One part of the variational bound per example.

    $$
    L_{i-1} = D_{KL}\bigl(q(z_{i-1} | z_i, x) \,\Vert\, p(z_{i-1} | z_i)\bigr), \qquad
    L_0 = -\ln p(x | z_1)
    $$

    with z_i at t = i/steps; σ(0) = 0 is assumed. `steps` times the term at a uniform step estimates
    transitions + decoder.

    Args:
      predict: (z [B, ...], t [B]) -> the prediction of `target`, of x's shape; or a pair of it and
        the fraction of a learned variance, of the same shape.
      x: clean data in −1..1, [B, ...].
      key: one key, or one per example [B].
      step: i, integers in 1..steps, [B].
      schedule: the noise schedule, with alpha and sigma.
      target: what `predict` predicts, with to_data: genjax.diffusion.predictions.
      steps: of the process, at least 2.
      variance: `small`, `large`, `learned`, or one called like them.
      decoder: (x, mean, log_var) -> −log p(x|z_1), elementwise.
      clip: (low, high) for the estimate of x, as Ho et al. do at test time; None for none.

    Returns:
      [B], in nats per image: L_0 where step is 1, else L_{step-1}; NaN where a traced step lies
      outside 1..steps.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where x is of integers, for less than 2 steps, where `step` is not [B] or no
        integers in 1..steps, where the prediction is not of x's shape, or where `learned` gets no
        fraction.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 5.
    """
    at = _diffuse(x, key, jnp.asarray(step), schedule, target, steps)
    prediction, fraction = _call(predict, at, x.dtype, variance)
    return _term(prediction, fraction, at, schedule, target, steps, variance, decoder, clip)


def bound(
    predict: Callable[[Array, Array], Any],
    x: Array,
    key: Array,
    *,
    schedule: Any,
    target: Any,
    steps: int,
    variance: Callable[..., Array] = small,
    decoder: Callable[[Array, Array, Array], Array] = discretized_gaussian,
    clip: tuple[float, float] | None = None,
) -> Bound:
    r"""Every part of the variational bound (VLB), with one noise each.

    $$
    -\ln p(x) \le L_T + \sum_{i=2}^T L_{i-1} + L_0
    $$

    `steps` calls of the network in one scan. sum(bound(...)) is the bound in nats, [B], which
    `bits_per_dim` converts.

    Args:
      predict: (z [B, ...], t [B]) -> the prediction of `target`, of x's shape; or a pair of it and
        the fraction of a learned variance, of the same shape.
      x: clean data in −1..1, [B, ...].
      key: one key, or one per example [B].
      schedule: the noise schedule, with alpha and sigma.
      target: what `predict` predicts, with to_data: genjax.diffusion.predictions.
      steps: of the process, at least 2.
      variance: `small`, `large`, `learned`, or one called like them.
      decoder: (x, mean, log_var) -> −log p(x|z_1), elementwise.
      clip: (low, high) for the estimate of x, as Ho et al. do at test time; None for none.

    Returns:
      Each part [B], in nats per image.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `steps` is traced.
      ValueError: where x is of integers, for less than 2 steps, where the prediction is not of x's
        shape, or where `learned` gets no fraction.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 5.
    """
    check_static(steps=steps)

    def at(step: int | Array) -> Array:
        return term(
            predict,
            x,
            keys.fold_in(key, step),
            jnp.full(x.shape[:1], step),
            schedule=schedule,
            target=target,
            steps=steps,
            variance=variance,
            decoder=decoder,
            clip=clip,
        )

    def add(total: Array, step: Array) -> tuple[Array, None]:
        return total + at(step), None

    decoded = at(1)
    total, _ = jax.lax.scan(add, jnp.zeros_like(decoded), jnp.arange(2, steps + 1))
    return Bound(prior(x, schedule=schedule), total, decoded)


def hybrid(
    predict: Callable[[Array, Array], tuple[Array, Array]],
    x: Array,
    key: Array,
    step: Array,
    *,
    schedule: Any,
    target: Any,
    steps: int,
    weight: float = 1e-3,
    variance: Callable[..., Array] = learned,
    decoder: Callable[[Array, Array, Array], Array] = discretized_gaussian,
) -> Array:
    r"""The hybrid loss, whose second part trains the variance alone.

    $$
    \lVert \mathrm{target} - \mathrm{prediction} \rVert^2
    + \mathrm{weight} \cdot \mathrm{steps} \cdot L_{\mathrm{step} - 1}
    $$

    The prediction is stopped in the bound. Both parts are summed over the image and the bound is
    in nats; the authors' code counts it in bits: weight = 1e-3 / ln 2.

    Args:
      predict: (z [B, ...], t [B]) -> (prediction, fraction), both of x's shape.
      x: clean data in −1..1, [B, ...].
      key: one key, or one per example [B].
      step: integers drawn uniformly from 1..steps, [B].
      schedule: the noise schedule, with alpha and sigma.
      target: what `predict` predicts: genjax.diffusion.predictions.
      steps: of the process, at least 2.
      weight: of the bound, the paper's λ.
      variance: `learned`, or one called like it.
      decoder: (x, mean, log_var) -> −log p(x|z_1), elementwise.

    Returns:
      [B].

    Raises:
      TypeError: where an argument is a class or a name in place of an object.
      ValueError: where x is of integers, for less than 2 steps, where `step` is not [B] or no
        integers in 1..steps, where the prediction is not of x's shape, or where `learned` gets no
        fraction.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
        arXiv:2102.09672, eq. 16.
    """
    at = _diffuse(x, key, jnp.asarray(step), schedule, target, steps)
    prediction, fraction = _call(predict, at, x.dtype, variance)
    wanted = target.of(at.x, at.eps, schedule.alpha(at.t), schedule.sigma(at.t))
    simple = sum_per_example((wanted - prediction) ** 2)
    stopped = jax.lax.stop_gradient(prediction)
    part = _term(stopped, fraction, at, schedule, target, steps, variance, decoder, None)
    return simple + weight * steps * part
