"""Adams-Bashforth samplers, which extrapolate earlier estimates of the noise: LMS and DEIS."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, InvertibleSchedule, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import Row, SamplingLoop, earlier
from genjax.numerics import check_has, check_static

# With ρ = σ/α, z/α moves along d(z/α) = ε̂ dρ. Both samplers integrate a polynomial through the
# last few ε̂; they differ in the variable u in which it is one. Divided by α_s, a step is that of
# DDIM and a sum of differences of ε̂, which stays finite where ρ is infinite.

# Half of Gauss and Legendre's eight nodes in −1..1 and their weights: exact to degree 15.
_NODES = 0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363
_WEIGHTS = 0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763


def lms(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    order: int = 4,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""LMS: the linear multistep method of Adams and Bashforth in ρ = σ/α.

    $$
    \frac{z_s}{\alpha_s} = \frac{z_t}{\alpha_t}
      + \sum_{j=0}^{\mathrm{order}-1} \hat\epsilon_j \int_{\rho_t}^{\rho_s}
        \prod_{k \ne j} \frac{\rho - \rho_k}{\rho_j - \rho_k} \, d\rho
    $$

    with ε̂_j of j steps before. The first steps have fewer terms. The step to σ_s = 0 is of first
    order, so that it ends on x̂; k-diffusion extrapolates there too.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      order: 1 to 4, the number of ε̂ in a step.
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
        where `order` is not 1 to 4.

    References:
      Zhang & Chen, "Fast Sampling of Diffusion Models with Exponential Integrator" (2022),
      arXiv:2204.13902, ρAB-DEIS.
    """
    _check_order(order)
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
    h, before = _distances(loop.rows.h, order)
    # In units of ρ_s.
    return _run(loop, h, [jnp.exp(h + b) for b in before], before, lambda x: jnp.exp(h * (1 - x)))


def deis(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    order: int = 4,
    log_snr: bool = False,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""DEIS: an exponential integrator with a polynomial in t through the last ε̂ (tAB-DEIS).

    $$
    \frac{z_s}{\alpha_s} = \frac{z_t}{\alpha_t}
      + \sum_{j=0}^{\mathrm{order}-1} \hat\epsilon_j \int_{\rho_t}^{\rho_s}
        \prod_{k \ne j} \frac{\tau(\rho) - t_k}{t_j - t_k} \, d\rho
    $$

    with ρ = σ/α, τ(ρ) the time of that ratio, and ε̂_j of j steps before. The first steps have
    fewer terms, and the step to σ_s = 0 is of first order, so that it ends on x̂. The integrals
    are sums at eight nodes.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t), log_snr(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      order: 1 to 4, the number of ε̂ in a step; 4 is the paper's tAB3.
      log_snr: whether the polynomials are in log-SNR in place of t, as in diffusers.
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
        where `order` is not 1 to 4.

    References:
      Zhang & Chen, "Fast Sampling of Diffusion Models with Exponential Integrator" (2022),
      arXiv:2204.13902, eqs. 14 and 15.
    """
    _check_order(order)
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
    h, before = _distances(loop.rows.h, order)
    if log_snr:
        return _run(loop, h, [h + b for b in before], before, lambda x: h * (1 - x))
    t = loop.rows.t
    at_t = schedule.log_snr(t)
    nodes = [t, *(earlier(t, jnp.inf, j) for j in range(1, order))]
    return _run(loop, h, nodes, nodes, lambda x: schedule.time(at_t + 2 * h * x))


def _check_order(order: int) -> None:
    check_static(order=order)
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order must be 1 to 4, not {order}")


def _distances(h: Array, order: int) -> tuple[Array, list[Array]]:
    """Finite steps of ℓ = log(α/σ), 0 for infinite ones; and how far back the ε̂ lie."""
    before = [jnp.zeros_like(h)]
    for j in range(1, order):
        before.append(before[-1] + earlier(h, jnp.inf, j))
    return jnp.where(jnp.isfinite(h), h, 0), before


def _run(
    loop: SamplingLoop,
    h: Array,
    nodes: list[Array],
    exist: list[Array],
    variable: Callable[[float], Array],
) -> Array | tuple[Array, Array]:
    """The sampler with polynomials in u through `nodes`, where finite; u at a share of h."""
    measure = loop.rows.sigma_next * h  # α_s dρ is −σ_s h e^(h (1 − x)) dx
    there = [jnp.isfinite(e) for e in exist]
    weights = [jnp.zeros_like(h)] * (len(nodes) - 1)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        for x in ((1 - node) / 2, (1 + node) / 2):
            u, part = variable(x), weight / 2 * measure * jnp.exp(h * (1 - x))
            for j in range(1, len(nodes)):
                weights[j - 1] = weights[j - 1] - part * _basis(u, nodes, there, j)
    weights = [jnp.where(t, w, 0) for t, w in zip(there[1:], weights, strict=True)]

    def step(carry: Any, item: tuple[Row, list[Array]]) -> tuple[Any, Array]:
        z, history = carry
        row, weights = item
        data, noise = loop.data_and_noise(z, row)
        after = row.alpha_next * data + row.sigma_next * noise
        for weight, other in zip(weights, history, strict=True):
            after = after + weight * (other - noise)
        return (after, [noise, *history][: len(history)]), after

    history = [jnp.zeros_like(loop.start)] * len(weights)
    (last, _), path = loop.scan(step, (loop.start, history), (loop.rows, weights))
    return loop.result(last, path, slice(0, -1))


def _basis(u: Array, nodes: list[Array], there: list[Array], j: int) -> Array:
    """Lagrange's polynomial of node j, of those that are there."""
    value = jnp.ones_like(u)
    for k in range(len(nodes)):
        if k != j:
            both = there[j] & there[k]
            gap = jnp.where(both, nodes[j] - nodes[k], 1)
            value = value * jnp.where(both, (u - nodes[k]) / gap, 1)
    return value
