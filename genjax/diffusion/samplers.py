"""One-step samplers of diffusion and flow models: ancestral, DDIM, Euler, Heun.

Each is one `lax.scan`: call it under `jax.jit`. `predict` is a pure function. A flax.nnx network
with BatchNorm or dropout may not update itself inside the scan: call `network.eval()`, and pass
`lambda z, t: nnx.merge(graph, state)(z, t)` with `graph, state = nnx.split(network)`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.diffusion.protocols import (
    Clip,
    InvertibleSchedule,
    Predict,
    PredictWithVariance,
    Schedule,
    Target,
)
from genjax.diffusion.sampling_loop import Row, SamplingLoop, check_order, positive
from genjax.numerics import check_floats, is_traced


def ancestral(
    predict: PredictWithVariance,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    variance: float | Array = 0.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""The reverse chain of DDPM: draws z_s from the posterior q(z_s | z_t, x̂).

    $$
    \begin{aligned}
    z_s &\sim \mathcal{N}\bigl(\mu,\; \beta^v \tilde\beta^{1-v}\bigr), &
    \mu &= \frac{\alpha_s}{\alpha_t} (1 - \kappa)\, z_t + \alpha_s \kappa\, \hat x, \\
    \kappa &= 1 - \frac{\mathrm{SNR}_t}{\mathrm{SNR}_s}, &
    \beta &= \kappa\, \sigma_t^2, \qquad \tilde\beta = \kappa\, \sigma_s^2
    \end{aligned}
    $$

    A learned variance needs no argument: let `predict` return the pair (prediction, v), v like z.
    The step to σ_s = 0 adds no noise.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names, or
        the pair (that, v).
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      variance: v, 0 for the variance β̃ and 1 for β.
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, section 3.2.
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
      arXiv:2102.09672, eq. 15.
    """
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
    )

    def step(z: Array, row: Row) -> Array:
        output = loop.output(z, row)
        prediction, v = output if isinstance(output, tuple) else (output, variance)
        data, noise = loop.split(prediction, z, row)
        # α_s x̂ + (σ_s²/σ_t)(α_t/α_s) ε̂ is μ with z_t taken apart, finite at α_t = 0.
        ratio = row.alpha / row.alpha_next
        mean = row.alpha_next * data + ratio * row.sigma_next**2 / row.sigma * noise
        std = jnp.sqrt(row.kappa) * row.sigma**v * positive(row.sigma_next) ** (1 - v)
        return mean + jnp.where(row.sigma_next > 0, std, 0) * loop.normal(row)

    return loop.run(step)


def ddim(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    eta: float | Array = 0.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""DDIM: deterministic and of first order at η = 0, ancestral with variance β̃ at η = 1.

    $$
    z_s = \alpha_s \hat x + \sqrt{\sigma_s^2 - c^2}\; \hat\epsilon + c\, \epsilon,
    \qquad c = \eta\, \sigma_s \sqrt{1 - \mathrm{SNR}_t / \mathrm{SNR}_s}
    $$

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      eta: η, in [0, 1].
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Song et al., "Denoising Diffusion Implicit Models" (2021), arXiv:2010.02502, eqs. 12 and 16.
    """
    draws_nothing = not is_traced(eta) and bool(eta == 0)
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
        encodes=draws_nothing,
    )

    def step(z: Array, row: Row) -> Array:
        data, noise = loop.data_and_noise(z, row)
        if draws_nothing:
            return row.alpha_next * data + row.sigma_next * noise
        return row.ddim(data, noise, loop.normal(row), eta)

    return loop.run(step)


def encode(
    predict: Predict,
    x: Array,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    sampler: Callable[..., Any] = ddim,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""The noise whose deterministic sample is x: DDIM inversion.

    Runs a sampler over the same times in reverse order, t < s:

    $$
    z_s = \alpha_s \hat x(z_t, t) + \sigma_s \hat\epsilon(z_t, t), \qquad z_0 = x
    $$

    Sampling from the result as `start` reproduces x up to the sampler's error. Where σ(0) = 0 the
    first step takes the ε̂ of the prediction there. Data and score determine none, and it is 0, as
    is right for independent pairs of data and noise alone.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      x: data, [B, ...].
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], the decreasing times of the sampler.
      sampler: a deterministic one-step sampler: `ddim`, `euler`, or `heun` for second order.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[0], like x; with `trajectory`, also the states at all of `steps` reversed.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where x is of integers, `steps` do not decrease in 0..1, or the sampler cannot
        run from data to noise.

    References:
      Song et al., "Denoising Diffusion Implicit Models" (2021), arXiv:2010.02502, section 5.4.
    """
    check_floats(x=x)
    steps = keys.check_times(steps, "steps")
    check_order(steps)
    return sampler(
        predict,
        None,
        x.shape,
        schedule=schedule,
        target=target,
        steps=jnp.flip(steps),
        start=x,
        clip=clip,
        trajectory=trajectory,
    )


class Churn(NamedTuple):
    r"""EDM's stochasticity: noise added before a step where low ≤ σ/α ≤ high.

    $$
    \gamma = \min\bigl(S_\mathrm{churn} / n,\; \sqrt 2 - 1\bigr)
    $$

    for n steps; elsewhere γ = 0.

    Attributes:
      amount: S_churn, >= 0.
      low: S_tmin, the lowest σ/α at which noise is added.
      high: S_tmax, the highest.
      noise: S_noise, a factor on the standard deviation of what is added.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, algorithm 2.
    """

    amount: float | Array
    low: float | Array = 0.0
    high: float | Array = math.inf
    noise: float | Array = 1.0


def euler(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    churn: Churn | None = None,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Euler's method with optional churn, of first order.

    $$
    z_s = \hat z + \hat x\, (\alpha_s - \alpha_{\hat t})
      + \hat\epsilon\, (\sigma_s - \sigma_{\hat t})
    $$

    with ẑ, t̂ of `heun`: z_t and t themselves without churn. Then it is `ddim` with η = 0, and on a
    rectified flow Euler's method in time.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      churn: EDM's stochasticity, for which the schedule needs time(log_snr); None for none.
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, algorithm 2 without its lines 7 and 8.
    """
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
        encodes=churn is None,
    )
    rows, added = _churn(loop.rows, schedule, churn)

    def step(z: Array, item: tuple[Row, _Added | None]) -> Array:
        row, added = item
        z = _add_noise(loop, z, row, added)
        data, noise = loop.data_and_noise(z, row)
        return row.alpha_next * data + row.sigma_next * noise

    return loop.run(step, (rows, added))


def heun(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    churn: Churn | None = None,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Heun's method with optional churn: EDM's sampler, on any schedule; of second order.

    $$
    \begin{aligned}
    \hat z &= \tfrac{\alpha_{\hat t}}{\alpha_t} \bigl(z_t + S_\mathrm{noise}\, \sigma_t
      \sqrt{\gamma (2 + \gamma)}\; \epsilon\bigr), \qquad
      \frac{\sigma_{\hat t}}{\alpha_{\hat t}} = (1 + \gamma) \frac{\sigma_t}{\alpha_t}, \\
    d(z, u) &= \hat x(z, u)\, (\alpha_s - \alpha_{\hat t})
      + \hat\epsilon(z, u)\, (\sigma_s - \sigma_{\hat t}), \\
    z' &= \hat z + d(\hat z, \hat t), \qquad
      z_s = \hat z + \tfrac12 \bigl(d(\hat z, \hat t) + d(z', s)\bigr)
    \end{aligned}
    $$

    but z_s = z' in the last step: n steps are 2n − 1 evaluations of the network.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      churn: EDM's stochasticity, for which the schedule needs time(log_snr); None for none.
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, algorithm 2.
    """
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
        encodes=churn is None,
    )
    rows, added = _churn(loop.rows, schedule, churn)
    change = (rows.alpha_next - rows.alpha, rows.sigma_next - rows.sigma)
    ends = rows._replace(t=rows.t_next, alpha=rows.alpha_next, sigma=rows.sigma_next)
    none = None if added is None else _Added(jnp.ones_like(added[0]), jnp.zeros_like(added[1]))
    # A step and its correction are two items of one scan: the network is traced once, and the
    # correction that the last step has none of is not computed.
    items = jax.tree.map(
        lambda a, b: jnp.stack([a, b], 1).reshape(-1)[:-1],
        (rows, added, change, jnp.zeros(rows.t.shape, bool)),
        (ends, none, change, jnp.ones(rows.t.shape, bool)),
    )

    def step(carry: tuple[Array, Array, Array], item: Any) -> tuple[Any, Array]:
        z, base, slope = carry
        row, added, (dalpha, dsigma), corrects = item
        z = _add_noise(loop, z, row, added)
        data, noise = loop.data_and_noise(z, row)
        d = dalpha * data + dsigma * noise
        # z + d in the form that ends on the data exactly.
        euler = row.alpha_next * data + row.sigma_next * noise
        after = jnp.where(corrects, base + (slope + d) / 2, euler)
        return (after, z, d), after

    (last, *_), path = loop.scan(step, (loop.start,) * 3, items)
    return loop.result(last, path, slice(1, -1, 2))


class _Added(NamedTuple):
    """ẑ = scale z_t + std ε."""

    scale: Array
    std: Array


def _churn(
    rows: Row, schedule: InvertibleSchedule, churn: Churn | None
) -> tuple[Row, _Added | None]:
    """The steps from t̂ on, and the noise that leads from t to t̂."""
    if churn is None:
        return rows, None
    if not isinstance(churn, Churn):
        raise TypeError(f"churn must be such as samplers.Churn(40.0) or None, not {churn!r}")
    alpha = positive(rows.alpha)
    ratio = rows.sigma / alpha
    touched = (rows.alpha > 0) & (ratio > 0) & (churn.low <= ratio) & (ratio <= churn.high)
    limit = churn.amount / rows.t.size
    limit = (jnp.minimum if is_traced(limit) else min)(limit, math.sqrt(2) - 1)
    t = schedule.time(-2 * (jnp.log(positive(ratio)) + jnp.log1p(limit)))
    t = jnp.where(touched, t, rows.t)
    raised_alpha, raised_sigma = schedule.alpha(t), schedule.sigma(t)
    # Less than γ where a schedule has no time of so much noise.
    reached = raised_sigma / positive(raised_alpha) / positive(ratio) - 1
    gamma = jnp.where(touched, jnp.clip(reached, 0, limit), 0)
    scale = jnp.where(touched, raised_alpha / alpha, 1)
    std = churn.noise * scale * rows.sigma * jnp.sqrt(gamma * (2 + gamma))
    return rows._replace(t=t, alpha=raised_alpha, sigma=raised_sigma), _Added(scale, std)


def _add_noise(loop: SamplingLoop, z: Array, row: Row, added: _Added | None) -> Array:
    return z if added is None else added.scale * z + added.std * loop.normal(row)
