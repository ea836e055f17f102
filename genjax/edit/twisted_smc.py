"""The twisted diffusion sampler: particles whose weights make guidance exact in the limit."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import Row, SamplingLoop, positive
from genjax.edit.operator import Operator
from genjax.edit.pigdm import guess_variance
from genjax.edit.solver_loop import check_observation, project, solver_loop
from genjax.numerics import check_static, sum_per_example


class Particles(NamedTuple):
    """What `twisted_smc` returns.

    Attributes:
      x: one particle per example, drawn by weight, [B, *operator.shape].
      particles: all of them, [B, K, *operator.shape].
      weights: of the particles, adding up to 1, [B, K].
      effective: particles that the weights of a step are worth, before it resamples, 1/Σw², in
        1..K; [n, B]. Where it is near 1, take more particles.
    """

    x: Array
    particles: Array
    weights: Array
    effective: Array


class _Twist(NamedTuple):
    """Of every particle at z_t: x̂, x̂ guided, the image that ends the run, log p̃(y | z_t)."""

    data: Array
    guided: Array
    end: Array
    log_likelihood: Array


def twisted_smc(
    predict: Predict,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    noise: float | Array = 0.0,
    particles: int = 8,
    threshold: float | Array = 0.5,
    data_std: float | Array = 1.0,
    start: Array | None = None,
    clip: Clip | None = None,
) -> Particles:
    r"""The twisted diffusion sampler: exact for many particles and small steps.

    K particles per example move by the reverse chain p(z_s | z_t) = N(μ, c² I) with the guided
    estimate x̂' of `pigdm.pigdm`, and the weights undo what is wrong with it:

    $$
    \begin{aligned}
    \tilde p(y \mid z_t) &= \mathcal{N}(y;\; A \hat x,\; r^2 A A^\top + \sigma_y^2 I), \qquad
    z_s \sim q = \mathcal{N}(\mu + \alpha_s \kappa\, (\hat x' - \hat x),\; c^2 I), \\
    w_s &= w_t\, \frac{p(z_s \mid z_t)\; \tilde p(y \mid z_s)}
      {q(z_s \mid z_t)\; \tilde p(y \mid z_t)}
    \end{aligned}
    $$

    Where 1/Σw² falls below `threshold` · K, particles are drawn anew by weight, by systematic
    resampling. The last step returns the mean of N(x̂, r² I) given y. Where A is not linear, A Aᵀ
    is taken as I.

    Measured on a mixture whose second mode has 0.247 of the posterior, at 50 steps
    (tests/edit/test_posteriors.py): one particle, which is guidance alone, finds it with
    0.211 ± 0.008, and 32 particles with 0.245 ± 0.011. The variance is that of the ancestral
    sampler, 0.91 times the right one at 50 steps.

    Args:
      predict: (z [B K, ...], t [B K]) -> array like z, the prediction that `target` names; it is
        differentiated by z.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone.
      y: observations A(x) + noise, [B, ...].
      operator: A, linear or not.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(100)`.
      noise: σ_y, the standard deviation of y's noise.
      particles: K, per example; time and memory are those of B K images.
      threshold: share of effective particles below which to resample; 1 resamples in every step.
      data_std: s, the standard deviation of the data in the guess; it changes the number of
        effective particles and not the limit.
      start: z at steps[0], [B, K, *operator.shape]; None to draw it as σ ε, ε ~ N(0, I). A start of
        less than 32 bits sets the dtype that `predict` sees and that is returned.
      clip: (low, high), or a function of x̂, applied to every x̂ and x̂', such as one of
        `thresholding`; None for none.

    Returns:
      One x per example, all particles, their weights, and the numbers of effective ones.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `particles` is traced.
      ValueError: where `steps`, `start`, y, the keys or a prediction have a wrong shape, `steps` do
        not strictly decrease in 0..1, y or `start` is of integers, or `particles` is below 1.

    References:
      Wu et al., "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models"
      (2023), arXiv:2306.17775, algorithm 1.
    """
    check_static(particles=particles)
    if particles < 1:
        raise ValueError(f"particles must be 1 or more, not {particles}")
    check_observation(y, operator, linear=False)
    shape = (y.shape[0], particles)
    mover, chooser = keys.split(key, 2, batch=y.shape[0])
    loop, y = solver_loop(
        predict,
        _per_particle(mover, particles),
        jnp.repeat(y, particles, 0),
        operator,
        schedule=schedule,
        target=target,
        steps=steps,
        start=None if start is None else start.reshape(-1, *operator.shape),
        clip=clip,
        linear=False,
    )

    def step(carry: tuple[Array, Array], row: Row) -> tuple[tuple[Array, Array], Array]:
        z, log_weights = carry
        twist = _twist(loop, z, row, y, operator, noise, data_std)
        log_weights = log_weights + twist.log_likelihood.reshape(shape)
        effective = 1 / jnp.sum(jax.nn.softmax(log_weights, -1) ** 2, -1)
        poor = (effective < threshold * particles)[:, None]
        places = keys.uniform(keys.fold_in(chooser, row.draw), shape[:1])
        index = jnp.where(poor, _drawn(log_weights, places, particles), jnp.arange(particles)[None])
        z, twist = jax.tree.map(lambda a: _taken(a, index), (z, twist))
        z, change = _moved(loop, z, row, twist)
        return (z, jnp.where(poor, 0, log_weights) + change.reshape(shape)), effective

    first = loop.start, jnp.zeros(shape, loop.start.dtype)
    (x, log_weights), effective = jax.lax.scan(step, first, loop.rows)
    x = cast(Array, loop.result(project(x, y, operator, noise), None, slice(0)))
    chosen = _drawn(log_weights, keys.uniform(keys.fold_in(chooser, 0), shape[:1]), 1)
    return Particles(
        x=_taken(x, chosen),
        particles=x.reshape(*shape, *operator.shape),
        weights=jax.nn.softmax(log_weights, -1),
        effective=effective,
    )


def _per_particle(key: Array, particles: int) -> Array:
    """One key as it is; one key per example as one per particle, [B K]."""
    if keys.is_single(key):
        return key
    made = jax.vmap(lambda one: keys.per_example(one, particles))(key)
    return made.reshape(-1, *made.shape[2:])


def _twist(
    loop: SamplingLoop,
    z: Array,
    row: Row,
    y: Array,
    operator: Operator,
    noise: float | Array,
    data_std: float | Array,
) -> _Twist:
    data, pullback = loop.data_and_pullback(z, row)
    guess, variance = guess_variance(row, data_std), jnp.asarray(noise) ** 2
    observed, adjoint = jax.vjp(operator, data)
    residual = y - observed
    if operator.linear:
        weighted = operator.solve(residual, guess, variance)
    else:
        weighted = residual / (guess + variance)
    pull = adjoint(weighted)[0]
    return _Twist(
        data=data,
        guided=loop.clipped(data + row.sigma**2 / positive(row.alpha) * pullback(pull)),
        end=data + guess * pull if operator.linear else data,
        # Without the determinant, which is the same for all particles.
        log_likelihood=-sum_per_example(residual * weighted) / 2,
    )


def _moved(loop: SamplingLoop, z: Array, row: Row, twist: _Twist) -> tuple[Array, Array]:
    """The particles at s, and what the step adds to the logarithms of their weights, [B K]."""
    drawn, std = loop.normal(row), row.sigma_next * jnp.sqrt(row.kappa)
    shift = row.alpha_next * row.kappa * (twist.guided - twist.data)
    implied = (z - row.alpha * twist.data) / row.sigma
    moved = row.ddim(twist.data, implied, drawn, 1.0) + shift
    ratio = -sum_per_example(shift * (2 * std * drawn + shift)) / (2 * positive(std) ** 2)
    change = jnp.where(std > 0, ratio - twist.log_likelihood, 0)
    return jnp.where(std > 0, moved, twist.end), change


def _drawn(log_weights: Array, places: Array, count: int) -> Array:
    """Systematic resampling: `count` indices per example [B, count], from a place in 0..1 [B]."""
    sums = jnp.cumsum(jax.nn.softmax(log_weights, -1), -1)
    points = (places[:, None] + jnp.arange(count)[None]) / count * sums[:, -1:]
    found = jax.vmap(lambda a, v: jnp.searchsorted(a, v, side="right"))(sums, points)
    return jnp.minimum(found, log_weights.shape[-1] - 1)


def _taken(a: Array, index: Array) -> Array:
    """Of [B K, ...] the particles [B, count] of each example, [B count, ...]."""
    grouped = a.reshape(index.shape[0], -1, *a.shape[1:])
    return jax.vmap(lambda group, i: group[i])(grouped, index).reshape(-1, *a.shape[1:])
