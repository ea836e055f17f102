"""One transition of Hamiltonian Monte Carlo for several chains per example, and its warm-up."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.edit.latent_density import with_gradient
from genjax.numerics import expand, sum_per_example

Density = Callable[[Array], Array]  # z [B, n, *latent] -> [B, n]


class Point(NamedTuple):
    """Where chains are.

    Attributes:
      z: [B, n, *latent].
      value: the log density there, [B, n].
      gradient: and its gradient, [B, n, *latent].
    """

    z: Array
    value: Array
    gradient: Array


class Adaptation(NamedTuple):
    """What a warm-up has found out so far.

    Attributes:
      centre: the log step that dual averaging leans to, [B].
      error: its running mean of the target less the acceptance, [B].
      log_step: the log step to try, [B].
      log_mean: the mean log step, which is used in the end, [B].
      tried: steps since dual averaging began, a scalar.
      scale: S, [B, d, d] for d numbers in a latent.
    """

    centre: Array
    error: Array
    log_step: Array
    log_mean: Array
    tried: Array
    scale: Array


def transition(
    density: Density,
    at: Point,
    key: Array,
    step: Array,
    scale: Array,
    leapfrogs: int,
    jitter: float,
) -> tuple[Point, Array]:
    """A trajectory from every chain's point, and its end where that is accepted.

    Args:
      density: z [B, n, *latent] -> log density [B, n].
      at: where the chains are.
      key: one key per example [B].
      step: ε, [B].
      scale: S, [B, d, d] for d numbers in a latent.
      leapfrogs: steps of the trajectory.
      jitter: ε is drawn within this share of `step`.

    Returns:
      The next point, and the probability with which the end was accepted, [B, n].
    """
    for_momentum, for_jitter, for_choice = keys.split(key, 3)
    momentum = keys.normal(for_momentum, at.z.shape, at.z.dtype)
    wide = keys.uniform(for_jitter, at.value.shape, at.z.dtype)
    size = expand(step[:, None] * (1 + jitter * (2 * wide - 1)), at.z)

    def leapfrog(carry: tuple[Point, Array], _: None) -> tuple[tuple[Point, Array], None]:
        point, momentum = carry
        momentum = momentum + size / 2 * _times(scale.mT, point.gradient)
        z = point.z + size * _times(scale, momentum)
        end = Point(z, *with_gradient(density, z))
        return (end, momentum + size / 2 * _times(scale.mT, end.gradient)), None

    (end, last), _ = jax.lax.scan(leapfrog, (at, momentum), length=leapfrogs)
    change = end.value - _kinetic(last) - (at.value - _kinetic(momentum))
    probability = acceptance_probability(change)
    accepted = keys.uniform(for_choice, probability.shape, at.z.dtype) < probability

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(expand(accepted, new), new, old)

    return jax.tree.map(chosen, end, at), probability


def acceptance_probability(change: Array) -> Array:
    r"""Metropolis' rule.

    $$
    \min(1, e^{H - H'})
    $$

    Args:
      change: H − H′, the log density gained less the kinetic energy gained, any shape.

    Returns:
      Probabilities, 0 where the trajectory has left the numbers.
    """
    return jnp.where(jnp.isnan(change), 0, jnp.exp(jnp.minimum(change, 0)))


def warm_up(
    density: Density,
    precision: Callable[[Array], Array],
    at: Point,
    key: Array,
    *,
    transitions: int,
    step: float,
    target: float,
    leapfrogs: int,
    jitter: float,
) -> tuple[Point, Array, Array]:
    r"""Adapts ε to an acceptance, and S to the curvature where the chains are, per example.

    Dual averaging of the log step, with A the mean probability of acceptance of the chains:

    $$
    \bar H_t = \bar H_{t-1} + \frac{\delta - A_t - \bar H_{t-1}}{t + 10}, \qquad
    \ln \epsilon_t = \mu - \frac{\sqrt t}{0.05} \bar H_t, \qquad
    \ln \bar\epsilon_t = t^{-0.75} \ln \epsilon_t + (1 - t^{-0.75}) \ln \bar\epsilon_{t-1}
    $$

    S Sᵀ is the inverse of `precision` at the start, and again after a quarter and after half of the
    transitions, from where ε is adapted anew.

    Args:
      density: z [B, n, *latent] -> log density [B, n].
      precision: z [B, n, *latent] -> positive definite matrices [B, d, d].
      at: where the chains start.
      key: one key per example [B].
      transitions: how many.
      step: ε at the start.
      target: δ, the acceptance to reach.
      leapfrogs: steps of each trajectory.
      jitter: ε is drawn within this share of itself.

    Returns:
      Where the chains are, ε [B] and S [B, d, d].

    References:
      Hoffman & Gelman, "The No-U-Turn Sampler" (2014), arXiv:1111.4246, section 3.2.
    """
    log_step = jnp.full(at.z.shape[:1], jnp.log(step), at.z.dtype)
    state = _restarted(log_step, _root(precision(at.z)))
    index = jnp.arange(transitions)
    closes = (index == transitions // 4 - 1) | (index == transitions // 2 - 1)

    def body(carry: tuple[Point, Adaptation], item: tuple) -> tuple[tuple[Point, Adaptation], None]:
        at, state = carry
        i, closes = item
        now = keys.fold_in(key, i), jnp.exp(state.log_step), state.scale
        at, probability = transition(density, at, *now, leapfrogs, jitter)
        state = _averaged(state, probability.mean(1), target)
        state = jax.lax.cond(
            closes,
            lambda: _restarted(state.log_mean, _root(precision(at.z))),
            lambda: state,
        )
        return (at, state), None

    (at, state), _ = jax.lax.scan(body, (at, state), (index, closes))
    return at, jnp.exp(state.log_mean), state.scale


def _averaged(s: Adaptation, acceptance: Array, target: float) -> Adaptation:
    tried = s.tried + 1
    error = s.error + (target - acceptance - s.error) / (tried + 10)
    log_step = s.centre - jnp.sqrt(tried) / 0.05 * error
    weight = tried**-0.75
    log_mean = weight * log_step + (1 - weight) * s.log_mean
    return s._replace(error=error, log_step=log_step, log_mean=log_mean, tried=tried)


def _restarted(log_step: Array, scale: Array) -> Adaptation:
    zero, none = jnp.zeros_like(log_step), jnp.zeros((), log_step.dtype)
    return Adaptation(log_step + jnp.log(10.0), zero, log_step, log_step, none, scale)


def _root(precision: Array) -> Array:
    """S with S Sᵀ = M⁻¹."""
    factor = jnp.linalg.cholesky(precision)
    identity = jnp.broadcast_to(jnp.eye(factor.shape[-1]), factor.shape)
    return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True).mT


def _times(scale: Array, vector: Array) -> Array:
    flat = vector.reshape(*vector.shape[:2], -1)
    return jnp.einsum("bij,bnj->bni", scale, flat).reshape(vector.shape)


def _kinetic(momentum: Array) -> Array:
    return jax.vmap(sum_per_example)(momentum**2) / 2
