"""Multistep samplers, which reuse the last x̂: DPM-Solver++ 2M (ODE and SDE) and UniPC."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Every sampler here is the exact solution of the equation for the half log-SNR ℓ = log(α/σ),
# z_s = (σ_s/σ_t) z_t + σ_s ∫ e^ℓ x̂(ℓ) dℓ, with a polynomial through some of the x̂ in the integral:
# each step is a linear combination whose coefficients depend on the step grid alone.


def dpm_solver_2m(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    eta=0.0,
    start=None,
    clip=None,
    trajectory=False,
):
    """DPM-Solver++(2M), second order with one evaluation a step, as an ODE or SDE solver.

    With h = ℓ_s − ℓ_t, ℓ = log(α/σ), h' the h of the step before and x̂' its x̂:
    z_s = (σ_s/σ_t) e^(−ηh) z_t + α_s (1 − e^(−(1+η)h)) (x̂ + h/(2h') (x̂ − x̂'))
    + σ_s √(1 − e^(−2ηh)) ε. The first step, and one to σ_s = 0, leaves x̂' out.
    Lu et al. 2022, "DPM-Solver++": η = 0 is their algorithm 2, η = 1 SDE-DPM-Solver++(2M).

    Args:
      predict: (z [B, ...], t [B]) -> array like z, what `target` says the network predicts.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. May be None
        where nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data).
      eta: a number in [0, 1].
      start: z at steps[0], of `shape`; drawn as σ ε, ε ~ N(0, I), if None. A start of less than 32
        bits is the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`.
      trajectory: also return every state.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].
    """
    grid = _grid(schedule, steps)
    h = grid.h
    # An infinite h (a step to clean data, or from pure noise) admits no extrapolation.
    finite = jnp.isfinite(h)
    lean = jnp.where(finite, h, 0) / (2 * jnp.where(finite, _shift(h, jnp.inf), jnp.inf))
    gain = -grid.alpha_next * jnp.expm1(-(1 + eta) * h)
    table = _Table(grid.ratio, [gain * (1 + lean), -gain * lean])
    if eta:
        std = grid.sigma_next * jnp.sqrt(-jnp.expm1(-2 * eta * h))
        table = table._replace(decay=grid.ratio * jnp.exp(-eta * h), std=std)
    return _run(predict, key, shape, grid, table, target, start, clip, trajectory)


def unipc(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    order=2,
    start=None,
    clip=None,
    trajectory=False,
):
    """UniPC: a multistep predictor of the given order, corrected at no further evaluation.

    With h = ℓ_s − ℓ_t, ℓ = log(α/σ), r_j = (ℓ_j − ℓ_t)/h of other nodes j, B = 1 − e^(−h):
    z_s = (σ_s/σ_t) z_t + α_s (B x̂_t + Σ_j a_j (x̂_j − x̂_t)), where Σ_j a_j r_j^k equals
    ∫₀¹ h e^(−h(1−θ)) θ^k dθ for k = 1, 2, … The predictor uses order − 1 earlier nodes; the
    corrector, once x̂_s is known, repeats the step with node s as well. A single unknown is
    a = B/(2r). The first steps are of lower order, and so are the last before σ_s = 0.
    Zhao et al. 2023, "UniPC", in its data-prediction form with B(h) = e^h − 1.

    Args:
      order: 1, 2 or 3, of the predictor; the corrector raises it by one.

    Other arguments and result as in `dpm_solver_2m`, and deterministic.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, not {order}")
    grid = _grid(schedule, steps)
    predictor, corrector = _unified(grid.h, order)
    # A step is corrected where the next one begins; nothing comes before the first.
    table = _Table(
        grid.ratio,
        [grid.alpha_next * c for c in predictor],
        correct_decay=_shift(grid.ratio, 1.0),
        correct=[_shift(grid.alpha_next * c, 0.0) for c in corrector],
    )
    return _run(predict, key, shape, grid, table, target, start, clip, trajectory)


def _unified(h, order):
    """UniPC's coefficients on x̂_t, x̂ before, …; and on x̂_s, x̂_t, x̂ before, …; each [n]."""
    n = h.size
    # Before the step to clean data, which can be of order 1 alone, the order goes down gradually.
    left = jnp.where(jnp.isinf(h[-1]), n - 1 - jnp.arange(n), n)
    depth = jnp.minimum(jnp.arange(n), left)
    # Nodes by their inverses 1/r: 0 is one that does not exist, or lies infinitely far away.
    nodes, distance = [], jnp.zeros(n)
    for j in range(1, order):
        distance = distance + _shift(h, jnp.inf, j)
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


def _moments(h, count):
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


def _weights(nodes, moments):
    """The integral of each node's Lagrange polynomial that vanishes at 0 and at other nodes."""
    weights = []
    for j, u in enumerate(nodes):
        r = jnp.where(u == 0, 0, 1 / jnp.where(u == 0, 1, u))
        polynomial = [u]  # of θ, without the factor θ that all of them share
        for other in nodes[:j] + nodes[j + 1 :]:
            padded = [*polynomial, 0], [0, *polynomial]
            scale = 1 / (1 - other * r)
            polynomial = [(a - other * b) * scale for a, b in zip(*padded, strict=True)]
        weights.append(sum(c * w for c, w in zip(polynomial, moments[1:], strict=False)))
    return weights


def _shift(x, fill, by=1):
    """x of `by` steps before."""
    return jnp.concatenate([jnp.full(by, fill, x.dtype), x])[: x.size]


class _Grid(NamedTuple):
    draw: jax.Array
    t: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    alpha_next: jax.Array
    sigma_next: jax.Array
    ratio: jax.Array  # σ_s / σ_t
    h: jax.Array  # ℓ_s − ℓ_t


class _Table(NamedTuple):
    """Each step's coefficients on z and on x̂, x̂ before, …; arrays [n]."""

    decay: jax.Array
    predict: list[jax.Array]
    std: jax.Array | None = None
    correct_decay: jax.Array | None = None
    correct: list[jax.Array] | None = None


def _grid(schedule, steps):
    steps = jnp.asarray(steps, float)
    if steps.ndim != 1 or steps.size < 2:
        raise ValueError(f"steps must be times [n + 1] with n >= 1, not of shape {steps.shape}")
    # t = 0 is the data: a sampler that ends there leaves no noise, though σ(0) > 0 in VE and EDM.
    clean = steps[-1] == 0
    alpha, sigma, log_snr = schedule.alpha(steps), schedule.sigma(steps), schedule.log_snr(steps)
    alpha_next = alpha[1:].at[-1].set(jnp.where(clean, 1, alpha[-1]))
    sigma_next = sigma[1:].at[-1].set(jnp.where(clean, 0, sigma[-1]))
    h = jnp.diff(log_snr) / 2
    h = h.at[-1].set(jnp.where(clean, jnp.inf, h[-1]))
    return _Grid(
        jnp.arange(1, steps.size),
        steps[:-1],
        alpha[:-1],
        sigma[:-1],
        alpha_next,
        sigma_next,
        sigma_next / sigma[:-1],
        h,
    )


def _run(predict, key, shape, grid, table, target, start, clip, trajectory):
    if start is None:
        start = grid.sigma[0] * _normal(key, 0, tuple(shape), grid.sigma.dtype)
    elif start.shape != tuple(shape):
        raise ValueError(f"start has shape {start.shape}, but shape is {tuple(shape)}: make equal")
    dtype = start.dtype
    start = start.astype(jnp.promote_types(dtype, jnp.float32))

    def data_of(z, step):
        prediction = predict(z.astype(dtype), jnp.full(z.shape[:1], step.t))
        if prediction.shape != z.shape:
            raise ValueError(f"predict gave shape {prediction.shape} for z of shape {z.shape}")
        data = target.to_data(prediction.astype(z.dtype), z, step.alpha, step.sigma)
        if clip is None:
            return data
        return clip(data) if callable(clip) else jnp.clip(data, *clip)

    def body(carry, item):
        z, before, seen = carry
        step, row = item
        seen = [data_of(z, step), *seen]
        if row.correct is not None:
            z = row.correct_decay * before + _combine(row.correct, seen)
        after = row.decay * z + _combine(row.predict, seen)
        if row.std is not None:
            after = after + row.std * _normal(key, step.draw, z.shape, z.dtype)
        return (after, z, seen[:-1]), z.astype(dtype) if trajectory else None

    columns = max(len(table.predict), len(table.correct or ()))
    unseen = [jnp.zeros_like(start)] * (columns - 1)
    (last, *_), path = jax.lax.scan(body, (start, start, unseen), (grid, table))
    last = last.astype(dtype)
    return (last, jnp.concatenate([path, last[None]])) if trajectory else last


def _combine(coefficients, arrays):
    return sum(c * x for c, x in zip(coefficients, arrays, strict=False))


def _normal(key, index, shape, dtype):
    """N(0, I) of draw `index`; with one key per example, example i's from key i alone."""
    if key is None:
        raise ValueError("this sampler draws noise: give it a key")
    ndim = 0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1
    if key.ndim == ndim:
        return jax.random.normal(jax.random.fold_in(key, index), shape, dtype)
    if key.shape[0] != shape[0]:
        raise ValueError(f"{key.shape[0]} keys for shape {shape}: give one key, or one per example")
    keys = jax.vmap(jax.random.fold_in, (0, None))(key, index)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(keys)
