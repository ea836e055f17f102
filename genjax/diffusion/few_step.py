"""Samplers of networks that learn to jump: consistency models, MeanFlow and shortcut models."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.predictions import data, flow
from genjax.diffusion.protocols import Clip, Predict, Schedule
from genjax.diffusion.sampling_loop import Row, SamplingLoop
from genjax.diffusion.schedules import RectifiedFlow
from genjax.numerics import check_prediction, is_traced

# (z [B, ...], r [B], t [B]) -> the mean velocity from time r to time t, like z.
PredictBetween: TypeAlias = Callable[[Array, Array, Array], Array]


def meanflow(
    predict: PredictBetween,
    key: Array | None,
    shape: Sequence[int],
    *,
    steps: Array,
    start: Array | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""MeanFlow: steps along the mean velocity, on the straight lines of `schedules.RectifiedFlow`.

    $$
    z_r = z_t - (t - r)\, u(z_t, r, t)
    $$

    One step, `steps.linear(1)`, is ε − u(ε, 0, 1). A perfect network ends on the same sample
    whatever the steps. A shortcut model s(z, t, d) is sampled so as well: let `predict` be
    `lambda z, r, t: s(z, t, t - r)`.

    Args:
      predict: (z [B, ...], r [B], t [B]) -> u, like z: the mean velocity between times r < t, as
        `genjax.losses.meanflow` trains it.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        `start` is given.
      shape: of the result, (B, ...).
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      start: z at steps[0], of `shape`; None to draw it as t ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`. With `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or neither key nor start is given.

    References:
      Geng et al., "Mean Flows for One-step Generative Modeling" (2025), arXiv:2505.13447.
      Frans et al., "One Step Diffusion via Shortcut Models" (2024), arXiv:2410.12557.
    """
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=RectifiedFlow(),
        target=flow,
        steps=steps,
        start=start,
        clip=None,
        trajectory=trajectory,
    )

    def step(z: Array, row: Row) -> Array:
        velocity = loop.output(z, row, row.t_next, row.t)
        check_prediction(velocity, z)
        return z - (row.t - row.t_next) * velocity.astype(z.dtype)

    return loop.run(step)


def consistency(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    steps: Array,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Multistep consistency sampling: the estimate of the data, made noisy again at each time.

    $$
    z_s = \alpha_s \hat x + \sqrt{\sigma_s^2 - \alpha_s^2 \sigma_0^2 / \alpha_0^2}\; \epsilon,
    \qquad \hat x = f(z_t, t)
    $$

    The noise σ_0 that the schedule has at t = 0 is in x̂ already. The result is the last x̂: one
    step is f(σ(1) ε, 1).

    Args:
      predict: (z [B, ...], t [B]) -> f, like z: the estimate of the data, such as
        `genjax.losses.consistency.boundary` makes of a network.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        `start` is given and n = 1.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as `schedules.EDM()`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`. A noise level σ/α is `schedule.time(-2 * log(σ/α))`.
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      The last x̂, of `shape`. With `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not strictly decrease in 0..1 or end above 0, `start` is of integers, or a key is needed
        and None is given.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, algorithm 1.
    """
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=data,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
        strict=True,
    )
    _check_end(steps)
    zero = jnp.zeros_like(loop.rows.t[0])
    left = schedule.sigma(zero) / schedule.alpha(zero)

    def step(z: Array, row: Row) -> Array:
        estimate = loop.data(z, row)
        if loop.rows.t.size == 1:
            return estimate
        kept = row.alpha_next * left
        std = jnp.sqrt(jnp.maximum((row.sigma_next - kept) * (row.sigma_next + kept), 0))
        return row.alpha_next * estimate + std * loop.normal(row)

    return loop.run(step)


def _check_end(steps: Array) -> None:
    if is_traced(steps):
        return
    with jax.ensure_compile_time_eval():
        if bool(jnp.asarray(steps)[-1] != 0):
            raise ValueError("steps must end at 0, where a consistency model estimates the data")
