"""Multistep samplers, which reuse earlier x̂: DPM-Solver++(2M) and (3M), ODE and SDE; UniPC."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import Row, SamplingLoop, earlier
from genjax.numerics import check_static, is_traced

# Every sampler here is the exact solution of the equation for the half log-SNR ℓ = log(α/σ),
# z_s = (σ_s/σ_t) z_t + σ_s ∫ e^ℓ x̂(ℓ) dℓ, with a polynomial through some of the x̂ in the integral:
# each step is a linear combination whose coefficients depend on the step grid alone.


def dpm_solver_2m(
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
    r"""DPM-Solver++(2M), second order with one evaluation per step, as an ODE or SDE solver.

    With ℓ = log(α/σ), h = ℓ_s − ℓ_t, and h', x̂' those of the previous step:

    $$
    z_s = \frac{\sigma_s}{\sigma_t} e^{-\eta h} z_t
      + \alpha_s \bigl(1 - e^{-(1 + \eta) h}\bigr)
        \Bigl(\hat x + \frac{h}{2 h'} (\hat x - \hat x')\Bigr)
      + \sigma_s \sqrt{1 - e^{-2 \eta h}}\; \epsilon
    $$

    The first step, and one to σ_s = 0, has no term in x̂'. The paper's algorithm and diffusers'
    `lower_order_final` take the last step without it wherever it ends, diffusers in fewer than 15
    steps alone; here a last step to σ_s > 0 keeps it.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      eta: η, in [0, 1]: 0 is the ODE solver, 1 SDE-DPM-Solver++(2M).
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
      (2022), arXiv:2211.01095, algorithm 2.
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
        strict=True,
    )
    rows, h = loop.rows, loop.rows.h
    ratio = rows.sigma_next / rows.sigma
    # An infinite h (a step to clean data, or from pure noise) admits no extrapolation.
    finite = jnp.isfinite(h)
    lean = jnp.where(finite, h, 0) / (2 * jnp.where(finite, earlier(h, jnp.inf), jnp.inf))
    gain = -rows.alpha_next * jnp.expm1(-(1 + eta) * h)
    table = _Coefficients(ratio, [gain * (1 + lean), -gain * lean])
    return _run(loop, _stochastic(table, rows, eta))


def dpm_solver_3m(
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
    r"""DPM-Solver++(3M) with one evaluation per step; at η = 1 DPM++ 3M SDE.

    With ℓ = log(α/σ), h = ℓ_s − ℓ_t, H = (1 + η) h, and h', h'' and x̂', x̂'' those of the two
    previous steps:

    $$
    \begin{aligned}
    z_s &= \frac{\sigma_s}{\sigma_t} e^{-\eta h} z_t
      + \alpha_s \bigl((1 - e^{-H})\, \hat x + \phi_2 D_1 - \phi_3 D_2\bigr)
      + \sigma_s \sqrt{1 - e^{-2 \eta h}}\; \epsilon, \\
    \phi_2 &= 1 - \frac{1 - e^{-H}}{H}, \qquad \phi_3 = \frac{\phi_2}{H} - \frac12, \\
    D_1 &= d + \frac{h'}{h' + h''} (d - d'), \qquad D_2 = \frac{h}{h' + h''} (d - d'), \\
    d &= \frac{h}{h'} (\hat x - \hat x'), \qquad d' = \frac{h}{h''} (\hat x' - \hat x'')
    \end{aligned}
    $$

    The first step has x̂ alone, the second no D_2 and D_1 = d; a step to σ_s = 0 ends on x̂. A
    parabola through the three x̂ has −2 φ_3 D_2. As in the authors' code, k-diffusion and diffusers
    there is half of that, which leaves a method of second order; `unipc` has the higher ones.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      eta: η, in [0, 1]: 0 is the ODE solver, 1 the SDE solver.
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
      (2022), arXiv:2211.01095.
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
        strict=True,
    )
    rows, h = loop.rows, loop.rows.h
    one, two = earlier(h, jnp.inf), earlier(h, jnp.inf, 2)
    finite = jnp.where(jnp.isfinite(h), h, 0)
    first, second = finite / one, finite / two  # 0 where there is no such x̂
    m = _moments((1 + eta) * h, 3)
    lean = m[1] * jnp.where(jnp.isfinite(two), one / (one + two), 0) + m[2] / 2 * finite / (
        one + two
    )
    combined = [
        m[0] + (m[1] + lean) * first,
        -m[1] * first - lean * (first + second),
        lean * second,
    ]
    table = _Coefficients(rows.sigma_next / rows.sigma, [rows.alpha_next * c for c in combined])
    return _run(loop, _stochastic(table, rows, eta))


def unipc(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    order: int = 2,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""UniPC: a multistep predictor of the given order, corrected at no further evaluation.

    With ℓ = log(α/σ), h = ℓ_s − ℓ_t, and r_j = (ℓ_j − ℓ_t)/h of other nodes j:

    $$
    \begin{aligned}
    z_s &= \frac{\sigma_s}{\sigma_t} z_t + \alpha_s \Bigl((1 - e^{-h})\, \hat x_t
      + \sum_j a_j (\hat x_j - \hat x_t)\Bigr), \\
    \sum_j a_j r_j^k &= \int_0^1 h e^{-h (1 - \theta)} \theta^k \, d\theta, \qquad k = 1, 2, \ldots
    \end{aligned}
    $$

    The predictor uses order − 1 earlier nodes; the corrector, once x̂_s is known, repeats the step
    with node s as well. A single unknown is a = (1 − e^(−h))/(2r). The first steps are of lower
    order, and so are the last before σ_s = 0: order 3 ends in steps of order 2 and 1. The authors'
    code and diffusers (`lower_order_final`) lower the order of the last steps wherever they end.
    Deterministic; data prediction with B(h) = e^h − 1.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      order: 1, 2 or 3, of the predictor; the corrector raises it by one.
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
        where `order` is not 1, 2 or 3.

    References:
      Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion
      Models" (2023), arXiv:2302.04867.
    """
    check_static(order=order)
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, not {order}")
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
    rows = loop.rows
    ratio = rows.sigma_next / rows.sigma
    predictor, corrector = _unified(rows.h, order)
    # A step is corrected where the next one begins; nothing comes before the first.
    table = _Coefficients(
        ratio,
        [rows.alpha_next * c for c in predictor],
        correct_decay=earlier(ratio, 1.0),
        correct=[earlier(rows.alpha_next * c, 0.0) for c in corrector],
    )
    return _run(loop, table)


class _Coefficients(NamedTuple):
    """Each step's coefficients on z and on the latest x̂, the one before it, …; columns [n]."""

    decay: Array
    predict: list[Array]
    std: Array | None = None
    correct_decay: Array | None = None
    correct: list[Array] | None = None


def _stochastic(table: _Coefficients, rows: Row, eta: float | Array) -> _Coefficients:
    """The same steps with noise."""
    if not is_traced(eta) and not eta:
        return table
    fade = jnp.where(eta > 0, eta * rows.h, 0)
    std = rows.sigma_next * jnp.sqrt(-jnp.expm1(-2 * fade))
    return table._replace(decay=table.decay * jnp.exp(-fade), std=std)


def _run(loop: SamplingLoop, table: _Coefficients) -> Array | tuple[Array, Array]:
    def step(carry: Any, item: tuple[Row, _Coefficients]) -> tuple[Any, Array]:
        z, previous, history = carry
        row, of = item
        history = [loop.data(z, row), *history]
        if of.correct is not None:
            z = of.correct_decay * previous + _combine(of.correct, history)
        after = of.decay * z + _combine(of.predict, history)
        if of.std is not None:
            after = after + of.std * loop.normal(row)
        return (after, z, history[:-1]), z

    columns = max(len(table.predict), len(table.correct or ()))
    history = [jnp.zeros_like(loop.start)] * (columns - 1)
    (last, *_), path = loop.scan(step, (loop.start, loop.start, history), (loop.rows, table))
    # A state is recorded after its correction, hence where the next step begins.
    return loop.result(last, path, slice(1, None))


def _combine(coefficients: list[Array], arrays: list[Array]) -> Array:
    return jnp.asarray(sum(c * x for c, x in zip(coefficients, arrays, strict=False)))


def _unified(h: Array, order: int) -> tuple[list[Array], list[Array]]:
    """UniPC's coefficients on x̂_t, x̂ before, …; and on x̂_s, x̂_t, x̂ before, …; each [n]."""
    n = h.size
    # Before the step to clean data, which can be of order 1 alone, the order goes down gradually.
    left = jnp.where(jnp.isinf(h[-1]), n - 1 - jnp.arange(n), n)
    depth = jnp.minimum(jnp.arange(n), left)
    # Nodes by their inverses 1/r: 0 is one that does not exist, or lies infinitely far away.
    nodes: list[Array] = []
    distance = jnp.zeros(n)
    for j in range(1, order):
        distance = distance + earlier(h, jnp.inf, j)
        nodes.append(jnp.where((j <= depth) & jnp.isfinite(h), -h / distance, 0))
    moments = _moments(h, order + 1)
    half = moments[0] / 2

    ahead = _weights(nodes, moments)
    present = sum(u != 0 for u in nodes)
    if nodes:
        ahead[0] = jnp.where(present == 1, half * nodes[0], ahead[0])
    *behind, new = _weights([*nodes, jnp.ones(n)], moments)
    new = jnp.where(present == 0, half, new)
    return (
        [moments[0] - sum(ahead), *ahead],
        [new, moments[0] - new - sum(behind), *behind],
    )


def _moments(h: Array, count: int) -> list[Array]:
    """∫₀¹ h e^(−h(1−θ)) θ^k dθ for k < count; by its series where the recursion loses digits."""
    near, far = jnp.minimum(h, 1), jnp.maximum(h, 1)
    recursion, moments = -jnp.expm1(-far), [-jnp.expm1(-h)]
    for k in range(1, count):
        recursion = 1 - k / far * recursion
        term = series = near / (k + 1)
        for m in range(1, 18):
            term = term * -near / (k + 1 + m)
            series = series + term
        moments.append(jnp.where(h < 1, series, recursion))
    return moments


def _weights(nodes: list[Array], moments: list[Array]) -> list[Array]:
    """The integral of each node's Lagrange polynomial that vanishes at 0 and at other nodes."""
    weights = []
    for j, u in enumerate(nodes):
        r = jnp.where(u == 0, 0, 1 / jnp.where(u == 0, 1, u))
        polynomial: list[Any] = [u]  # of θ, without the factor θ that all of them share
        for other in nodes[:j] + nodes[j + 1 :]:
            padded = [*polynomial, 0], [0, *polynomial]
            scale = 1 / (1 - other * r)
            polynomial = [(a - other * b) * scale for a, b in zip(*padded, strict=True)]
        weights.append(_combine(polynomial, moments[1:]))
    return weights
