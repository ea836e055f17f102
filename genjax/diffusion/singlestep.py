"""Singlestep samplers, of several evaluations in each step: DPM-Solver and DPM-Solver++."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, InvertibleSchedule, Predict, Target
from genjax.diffusion.sampling_loop import Row, SamplingLoop, positive
from genjax.numerics import check_has, check_static, is_traced

# A stage leads from t to a level of noise by the step of DDIM, from the x̂ and ε̂ at t, and a
# correction by how far the latest x̂ or ε̂ has moved from that at t. A step that adds noise first
# goes below σ_s, by h_d of ℓ = log(α/σ) in place of h.


def dpm_solver(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    order: int = 2,
    eta: float | Array = 0.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Singlestep DPM-Solver; of order 2 it is DPM-2, and with η = 1 DPM-2 ancestral.

    With ℓ = log(α/σ), h = ℓ_s − ℓ_t and u_r a state at ℓ_t + r h, order 2 is

    $$
    \begin{aligned}
    u_{1/2} &= \alpha_{1/2}\, \hat x_t + \sigma_{1/2}\, \hat\epsilon_t, \\
    z_s &= \alpha_s \hat x_t + \sigma_s \hat\epsilon_t
      - \sigma_s (e^h - 1) (\hat\epsilon_{1/2} - \hat\epsilon_t)
    \end{aligned}
    $$

    and order 3, with φ(h) = (e^h − 1)/h − 1,

    $$
    \begin{aligned}
    u_{1/3} &= \alpha_{1/3}\, \hat x_t + \sigma_{1/3}\, \hat\epsilon_t, \\
    u_{2/3} &= \alpha_{2/3}\, \hat x_t + \sigma_{2/3}\, \hat\epsilon_t
      - 2\, \sigma_{2/3}\, \phi(\tfrac23 h)\, (\hat\epsilon_{1/3} - \hat\epsilon_t), \\
    z_s &= \alpha_s \hat x_t + \sigma_s \hat\epsilon_t
      - \tfrac32\, \sigma_s\, \phi(h)\, (\hat\epsilon_{2/3} - \hat\epsilon_t)
    \end{aligned}
    $$

    With η > 0 these lead to σ_d = σ_s √(1 − η² κ) in place of σ_s, κ = 1 − SNR_t/SNR_s, and
    η σ_s √κ ξ is added. A step to σ_s = 0, or from α_t = 0, is that of DDIM, of one evaluation.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t), log_snr(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      order: 2 or 3, the evaluations of the network in each step.
      eta: η, in [0, 1]: 0 is the ODE solver, 1 ancestral.
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
        not strictly decrease in 0..1, `start` is of integers, or a key is needed and None is given;
        where `order` is not 2 or 3.

    References:
      Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around
      10 Steps" (2022), arXiv:2206.00927, algorithms 1 and 2.
    """
    check_static(order=order)
    if order not in (2, 3):
        raise ValueError(f"order must be 2 or 3, not {order}")
    check_has("time", "schedules.VP()", schedule=schedule)
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
        strict=True,
    )
    rows, end = loop.rows, _ancestral(loop.rows, eta)
    h = end.h
    inner = [_between(rows, schedule, share * h) for share in (_HALF if order == 2 else _THIRDS)]
    levels = [_Level(row.alpha, row.sigma) for row in inner]
    if order == 2:
        last = -end.sigma * jnp.expm1(h)
    else:
        levels[1] = levels[1]._replace(weight=-2 * inner[1].sigma * phi(2 / 3 * h))
        last = -3 / 2 * end.sigma * phi(h)
    levels.append(_Level(rows.alpha_next, end.sigma, last, end.std))
    return _run(loop, inner, levels, end, of_noise=True, draws=is_traced(eta) or bool(eta))


def dpm_solver_2s(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    eta: float | Array = 0.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""DPM-Solver++(2S), of second order with two evaluations per step; with η = 1 2S ancestral.

    With ℓ = log(α/σ), κ = 1 − SNR_t/SNR_s, a level of noise σ_d at α_s, h_d = ℓ_d − ℓ_t, and m at
    the middle, ℓ_t + h_d/2:

    $$
    \begin{aligned}
    z_m &= \alpha_m \hat x_t + \sigma_m \hat\epsilon_t, \qquad
      \sigma_d = \sigma_s \sqrt{1 - \eta^2 \kappa}, \\
    z_s &= \frac{\sigma_d}{\sigma_t} z_t + \alpha_s (1 - e^{-h_d})\, \hat x(z_m)
      + \eta\, \sigma_s \sqrt\kappa\; \xi
    \end{aligned}
    $$

    A step to σ_s = 0, or from α_t = 0, is that of DDIM, of one evaluation.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t), log_snr(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      eta: η, in [0, 1]: 0 is the ODE solver, 1 ancestral.
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
        not strictly decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models"
      (2022), arXiv:2211.01095, algorithm 1.
    """
    check_has("time", "schedules.VP()", schedule=schedule)
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
        strict=True,
    )
    rows, end = loop.rows, _ancestral(loop.rows, eta)
    middle = _between(rows, schedule, end.h / 2)
    levels = [
        _Level(middle.alpha, middle.sigma),
        _Level(rows.alpha_next, end.sigma, -rows.alpha_next * jnp.expm1(-end.h), end.std),
    ]
    return _run(loop, [middle], levels, end, of_noise=False, draws=is_traced(eta) or bool(eta))


def dpm_solver_sde(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    eta: float | Array = 1.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""DPM++ SDE: two evaluations per step, with noise at the middle too.

    With ℓ = log(α/σ), h = ℓ_s − ℓ_t and m at ℓ_t + h/2, let r be m or s:

    $$
    \begin{aligned}
    \kappa_r &= 1 - \mathrm{SNR}_t / \mathrm{SNR}_r, \qquad
      \sigma_r' = \sigma_r \sqrt{1 - \eta^2 \kappa_r}, \\
    z_m &= \alpha_m \hat x_t + \sigma_m' \hat\epsilon_t + \eta\, \sigma_m \sqrt{\kappa_m}\; \xi, \\
    z_s &= \frac{\sigma_s'}{\sigma_t} z_t
      + \Bigl(\alpha_s - \frac{\sigma_s' \alpha_t}{\sigma_t}\Bigr)\, \hat x(z_m)
      + \eta\, \sigma_s \sqrt{\kappa_s}\; \bigl(\sqrt c\, \xi + \sqrt{1 - c}\; \xi'\bigr)
    \end{aligned}
    $$

    ξ is the first part of one Brownian motion in σ/α, as in k-diffusion: c = 1/(1 + e^(−h/2)). A
    step to σ_s = 0, or from α_t = 0, is that of DDIM with η, of one evaluation.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t), log_snr(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      eta: η, in [0, 1]: 1 is the SDE, 0 `dpm_solver_2s` without noise.
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
        not strictly decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models"
      (2022), arXiv:2211.01095, algorithm 1.
    """
    check_has("time", "schedules.VP()", schedule=schedule)
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
        strict=True,
    )
    rows, end = loop.rows, _ancestral(loop.rows, eta)
    h = jnp.where(end.finite, rows.h, 0)
    middle = _between(rows, schedule, h / 2)
    noisy = rows._replace(sigma_next=middle.sigma, h=h / 2, kappa=-jnp.expm1(-h))
    half = _ancestral(noisy, eta)
    share = jax.nn.sigmoid(h / 2)
    levels = [
        _Level(middle.alpha, half.sigma, std=half.std),
        _Level(
            rows.alpha_next,
            end.sigma,
            -rows.alpha_next * jnp.expm1(-end.h),
            end.std * jnp.sqrt(1 - share),
            end.std * jnp.sqrt(share),
        ),
    ]
    return _run(loop, [middle], levels, end, of_noise=False, draws=is_traced(eta) or bool(eta))


_HALF, _THIRDS = (1 / 2,), (1 / 3, 2 / 3)


class _End(NamedTuple):
    """The level below σ_s that a step leads to before noise is added; columns [n].

    Attributes:
      sigma: its σ, at α_s.
      std: of the noise that leads back to σ_s.
      h: its distance in ℓ = log(α/σ), 0 where that is infinite.
      finite: whether it is finite.
    """

    sigma: Array
    std: Array
    h: Array
    finite: Array


class _Level(NamedTuple):
    """Where a stage leads; columns [n].

    Attributes:
      alpha: α.
      sigma: σ, before noise is added.
      weight: of the latest estimate less that at t.
      std: of the noise that is drawn.
      kept: of the noise that the stage before drew.
    """

    alpha: Array
    sigma: Array
    weight: Array | float = 0.0
    std: Array | float = 0.0
    kept: Array | float = 0.0


def _ancestral(rows: Row, eta: float | Array) -> _End:
    left = (1 - eta) * (1 + eta) + eta**2 * jnp.exp(-2 * rows.h)  # 1 − η² κ
    h = rows.h - jnp.log(left) / 2
    finite = jnp.isfinite(h)
    std = eta * rows.sigma_next * jnp.sqrt(rows.kappa)
    return _End(rows.sigma_next * jnp.sqrt(left), std, jnp.where(finite, h, 0), finite)


def _between(rows: Row, schedule: InvertibleSchedule, ahead: Array) -> Row:
    """The rows at a distance in ℓ from t."""
    t = jnp.where(ahead > 0, schedule.time(schedule.log_snr(rows.t) + 2 * ahead), rows.t)
    return rows._replace(t=t, alpha=schedule.alpha(t), sigma=schedule.sigma(t))


def phi(h: Array) -> Array:
    r"""The function of DPM-Solver's third order, to all digits of small h.

    $$
    \phi(h) = \frac{e^h - 1}{h} - 1
    $$

    Args:
      h: >= 0, of any shape.

    Returns:
      φ, like h.

    References:
      Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around
      10 Steps" (2022), arXiv:2206.00927, algorithm 2.
    """
    term = series = h / 2
    for k in range(3, 19):
        term = term * h / k
        series = series + term
    return jnp.where(h < 1, series, jnp.expm1(h) / positive(h) - 1)


def _run(
    loop: SamplingLoop,
    inner: list[Row],
    levels: list[_Level],
    end: _End,
    *,
    of_noise: bool,
    draws: bool,
) -> Array | tuple[Array, Array]:
    """The sampler that evaluates at t and at `inner`, each leading to one of `levels`."""
    count, n = len(levels), end.h.size
    alone = _Level(loop.rows.alpha_next, end.sigma, std=end.std)
    levels[0] = jax.tree.map(lambda a, b: jnp.where(end.finite, a, b), levels[0], alone)
    used = [jnp.ones_like(end.finite)] + [end.finite] * len(inner)
    stages = list(zip([loop.rows, *inner], levels, used, strict=True))
    columns = jax.tree.map(
        lambda *each: jnp.stack([jnp.broadcast_to(e, n) for e in each], 1).reshape(-1), *stages
    )

    def step(carry: Any, item: Any) -> tuple[Any, Array]:
        number, (row, level, used) = item

        def advance() -> Any:
            z, at_t, drawn = carry
            latest = loop.data_and_noise(z, row)
            begins = number % count == 0
            at_t = jax.tree.map(lambda a, b: jnp.where(begins, a, b), latest, at_t)
            z = level.alpha * at_t[0] + level.sigma * at_t[1]
            z = z + level.weight * (latest[of_noise] - at_t[of_noise])
            if draws:
                before, drawn = drawn, loop.normal(row._replace(draw=number + 1))
                z = z + level.std * drawn + level.kept * before
            return z, at_t, drawn

        # A stage that a step has not is not computed.
        carry = jax.lax.cond(used, advance, lambda: carry)
        return carry, carry[0]

    carry = loop.start, (loop.start, loop.start), loop.start
    (last, *_), path = loop.scan(step, carry, (jnp.arange(n * count), columns))
    return loop.result(last, path, slice(count - 1, -1, count))
