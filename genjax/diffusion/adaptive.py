"""DPM-Solver with steps as long as an estimate of their error allows, for each example."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, InvertibleSchedule, Predict, Target
from genjax.diffusion.sampling_loop import SamplingLoop
from genjax.diffusion.singlestep import phi
from genjax.numerics import check_has, check_prediction, check_static, expand, sum_per_example

_LOG_SNR_BOUND = 30.0  # beyond it float32 sums cannot tell the smaller of signal and noise from 0


class AdaptiveSample(NamedTuple):
    """What `dpm_solver_adaptive` returns.

    Attributes:
      z: the state at the time `end`, [B, ...]; NaN in examples that did not get there.
      evaluations: of the network in accepted and rejected steps of each example, [B].
      rejected: steps of each example that were taken back, [B].
    """

    z: Array
    evaluations: Array
    rejected: Array


class _State(NamedTuple):
    """The examples between two steps; ell is log(α/σ), h the length of the next step in it."""

    z: Array
    before: Array  # the less accurate state of the last accepted step
    ell: Array
    h: Array
    errors: Array  # inverse ones, of this step and the two accepted before, [3, B]
    tried: Array
    rejected: Array


def dpm_solver_adaptive(
    predict: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    schedule: InvertibleSchedule,
    target: Target,
    begin: float | Array = 1.0,
    end: float | Array = 1e-3,
    order: int = 3,
    rtol: float | Array = 0.05,
    atol: float | Array = 0.0078,
    first: float | Array = 0.05,
    gains: tuple[float, float, float] = (0.0, 1.0, 0.0),
    safety: float | Array = 0.81,
    limit: int = 1000,
    start: Array | None = None,
    clip: Clip | None = None,
) -> AdaptiveSample:
    r"""DPM-Solver-12 or 23: the step of one order tells the error of that of the order below.

    With the results z' of the lower and z'' of the higher order, and z_0 the lower one of the step
    before, the error of an example of D elements is

    $$
    E = \frac{1}{\sqrt D} \Bigl\lVert
      \frac{z' - z''}{\max(\mathrm{atol}, \mathrm{rtol} \max(|z'|, |z_0|))} \Bigr\rVert, \qquad
    h \leftarrow h \Bigl(1 + \arctan\bigl(E^{-b_1} E_{-1}^{-b_2} E_{-2}^{-b_3} - 1\bigr)\Bigr)
    $$

    with 1e-8 added to E and (b_1, b_2, b_3) = (P + I + D, −P − 2D, D)/order of a PID controller.
    A step is accepted where the factor of h is at least `safety`, and is z''.

    Each example has steps of its own, as if it were alone: it does not depend on the others of the
    batch, whose slowest decides how often the network is called. k-diffusion takes the same step
    for all, and measures z/α. There is no reverse-mode derivative, as of any `jax.lax.while_loop`.
    Clean data are one more step of `samplers.ddim` from `end` to 0.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        `start` is given.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t), log_snr(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      begin: the time at which to start, in 0..1; an infinite log-SNR there is taken as −30.
      end: the time at which to stop, below `begin` and above 0 where σ(0) = 0.
      order: 2 for DPM-Solver-12, 3 for DPM-Solver-23: the evaluations in a step.
      rtol: relative tolerance of a step.
      atol: absolute tolerance, in the unit of the data.
      first: length of the first step in log(α/σ).
      gains: (P, I, D) of the controller.
      safety: the factor of h from which on a step is accepted.
      limit: the most steps, accepted or not.
      start: z at `begin`, of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.

    Returns:
      The state at `end`, and what it cost.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `order` or `limit` is traced.
      ValueError: where `start`, the keys or a prediction have a wrong shape, `end` is not below
        `begin`, `start` is of integers, or neither key nor start is given; where `order` is not 2
        or 3.

    References:
      Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around
      10 Steps" (2022), arXiv:2206.00927, appendix C.
    """
    check_static(order=order, limit=limit)
    if order not in (2, 3):
        raise ValueError(f"order must be 2 or 3, not {order}")
    check_has("time", "schedules.VP()", schedule=schedule)
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=jnp.stack([jnp.asarray(begin, float), jnp.asarray(end, float)]),
        start=start,
        clip=clip,
        trajectory=False,
        strict=True,
    )
    problem = _Problem(
        loop, schedule, target, order, rtol, atol, safety,
        powers=jnp.array([sum(gains), -gains[0] - 2 * gains[2], gains[2]]) / order,
        ells=_half_log_snr(schedule, jnp.stack([loop.rows.t[0], loop.rows.t_next[0]])),
    )  # fmt: skip

    def unfinished(state: _State) -> Array:
        return jnp.any(~problem.there(state.ell) & (state.tried < limit))

    each = jnp.zeros_like(loop.start, shape=loop.start.shape[:1])
    none = jnp.zeros(each.shape, int)
    state = _State(
        loop.start,
        loop.start,
        each + problem.ells[0],
        each + first,
        jnp.ones((3, *each.shape)),
        none,
        none,
    )
    state = jax.lax.while_loop(unfinished, problem.advance, state)
    z = jnp.where(expand(problem.there(state.ell), state.z), state.z, jnp.nan)
    z = z.astype(loop.start.dtype if start is None else start.dtype)
    return AdaptiveSample(z, order * state.tried, state.rejected)


def _half_log_snr(schedule: InvertibleSchedule, t: Array) -> Array:
    return jnp.clip(schedule.log_snr(t), -_LOG_SNR_BOUND, _LOG_SNR_BOUND) / 2


class _Problem(NamedTuple):
    """What is the same in all steps."""

    loop: SamplingLoop
    schedule: InvertibleSchedule
    target: Target
    order: int
    rtol: float | Array
    atol: float | Array
    safety: float | Array
    powers: Array
    ells: Array  # at the begin and the end

    def there(self, ell: Array) -> Array:
        return ell >= self.ells[1] - 1e-5

    def level(self, ell: Array) -> tuple[Array, Array]:
        t = self.schedule.time(2 * ell)
        return self.schedule.alpha(t), self.schedule.sigma(t)

    def estimates(self, z: Array, ell: Array) -> tuple[Array, Array]:
        alpha, sigma = self.level(ell)
        prediction = self.loop.output(z, self.loop.rows, self.schedule.time(2 * ell))
        check_prediction(prediction, z)
        data = self.target.to_data(prediction.astype(z.dtype), z, alpha, sigma)
        data = self.loop.clipped(data)
        return data, (z - expand(alpha, z) * data) / expand(sigma, z)

    def both(self, z: Array, ell: Array, h: Array) -> tuple[Array, Array]:
        """The results of the two orders."""
        shares = jnp.arange(self.order) / self.order
        to = [self.level(ell + share * h) for share in (*shares[1:], 1)]
        alpha, sigma = to[-1]
        if self.order == 2:
            weights, low_weight = [0 * h, -sigma * jnp.expm1(h)], 0 * h
        else:
            weights = [0 * h, -2 * to[1][1] * phi(2 / 3 * h), -3 / 2 * sigma * phi(h)]
            low_weight = -3 / 2 * sigma * jnp.expm1(h)

        def step(carry: Any, item: Any) -> tuple[Any, Array]:
            z, *at_ell = carry
            share, (alpha, sigma), weight = item
            latest = self.estimates(z, ell + share * h)
            data, noise = jax.tree.map(
                lambda a, b: jnp.where(share == 0, a, b), latest, tuple(at_ell)
            )
            z = expand(alpha, z) * data + expand(sigma, z) * noise
            return (z + expand(weight, z) * (latest[1] - noise), data, noise), latest[1]

        items = shares, jax.tree.map(lambda *each: jnp.stack(each), *to), jnp.stack(weights)
        (high, data, noise), noises = jax.lax.scan(step, (z, z, z), items)
        low = expand(alpha, z) * data + expand(sigma, z) * noise
        low = low + expand(low_weight, z) * (noises[1] - noise)
        return low, high

    def advance(self, state: _State) -> _State:
        there = self.there(state.ell)
        to = jnp.where(there, state.ell, jnp.minimum(self.ells[1], state.ell + state.h))
        low, high = self.both(state.z, state.ell, to - state.ell)
        allowed = self.rtol * jnp.maximum(jnp.abs(low), jnp.abs(state.before))
        error = (low - high) / jnp.maximum(self.atol, allowed)
        size = low.size / low.shape[0]
        inverse = 1 / (jnp.sqrt(sum_per_example(error**2) / size) + 1e-8)
        errors = jnp.where(state.tried == 0, inverse, state.errors.at[0].set(inverse))
        factor = 1 + jnp.arctan(jnp.prod(errors ** self.powers[:, None], 0) - 1)
        accept = ~there & (factor >= self.safety)
        return _State(
            z=jnp.where(expand(accept, low), high, state.z),
            before=jnp.where(expand(accept, low), low, state.before),
            ell=jnp.where(accept, to, state.ell),
            h=jnp.where(there, state.h, state.h * factor),
            errors=jnp.where(accept, errors[jnp.array([0, 0, 1])], errors),
            tried=state.tried + ~there,
            rejected=state.rejected + (~there & ~accept),
        )
