"""One transition of Hamiltonian Monte Carlo for several chains per example, and its warm-up."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
      scale: S, the standard deviation of each number of the latent, [B, 1, *latent].
      length: draws in the window, a scalar.
      mean: of each chain in the window, [B, n, *latent].
      squares: sums of squared deviations from it, [B, n, *latent].
    """

    centre: Array
    error: Array
    log_step: Array
    log_mean: Array
    tried: Array
    scale: Array
    length: Array
    mean: Array
    squares: Array


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
      scale: S, [B, 1, *latent].
      leapfrogs: steps of the trajectory.
      jitter: ε is drawn within this share of `step`.

    Returns:
      The next point, and the probability with which the end was accepted, [B, n].
    """
    for_momentum, for_jitter, for_choice = keys.split(key, 3)
    momentum = keys.normal(for_momentum, at.z.shape, at.z.dtype)
    wide = keys.uniform(for_jitter, at.value.shape, at.z.dtype)
    size = expand(step[:, None] * (1 + jitter * (2 * wide - 1)), at.z) * scale

    def leapfrog(carry: tuple[Point, Array], _: None) -> tuple[tuple[Point, Array], None]:
        point, momentum = carry
        momentum = momentum + size / 2 * point.gradient
        z = point.z + size * momentum
        end = Point(z, *with_gradient(density, z))
        return (end, momentum + size / 2 * end.gradient), None

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
    at: Point,
    key: Array,
    *,
    transitions: int,
    step: float,
    target: float,
    leapfrogs: int,
    jitter: float,
) -> tuple[Point, Array, Array]:
    r"""Adapts ε to an acceptance, and S to the spread of the latents, per example.

    Dual averaging of the log step, with A the mean probability of acceptance of the chains:

    $$
    \bar H_t = \bar H_{t-1} + \frac{\delta - A_t - \bar H_{t-1}}{t + 10}, \qquad
    \ln \epsilon_t = \mu - \frac{\sqrt t}{0.05} \bar H_t, \qquad
    \ln \bar\epsilon_t = t^{-0.75} \ln \epsilon_t + (1 - t^{-0.75}) \ln \bar\epsilon_{t-1}
    $$

    S is estimated twice, from the second and third tenth of the transitions and from the next
    five, pooled over the chains around their own means; ε starts again after each.

    Args:
      density: z [B, n, *latent] -> log density [B, n].
      at: where the chains start.
      key: one key per example [B].
      transitions: how many; under 20 of them S stays 1.
      step: ε at the start.
      target: δ, the acceptance to reach.
      leapfrogs: steps of each trajectory.
      jitter: ε is drawn within this share of itself.

    Returns:
      Where the chains are, ε [B] and S [B, 1, *latent].

    References:
      Hoffman & Gelman, "The No-U-Turn Sampler" (2014), arXiv:1111.4246, section 3.2.
    """
    scale = jnp.ones_like(at.z[:, :1])
    log_step = jnp.full(at.z.shape[:1], jnp.log(step), at.z.dtype)
    state = _restarted(log_step, scale, at.z)
    index = np.arange(transitions)
    opens, ends = transitions // 10, [transitions * 3 // 10 - 1, transitions * 8 // 10 - 1]
    closes = np.isin(index, ends) & (transitions >= 20)

    def body(carry: tuple[Point, Adaptation], item: tuple) -> tuple[tuple[Point, Adaptation], None]:
        at, state = carry
        i, collects, closes = item
        now = keys.fold_in(key, i), jnp.exp(state.log_step), state.scale
        at, probability = transition(density, at, *now, leapfrogs, jitter)
        state = _averaged(state, probability.mean(1), target)
        state = _where(collects, _with(state, at.z), state)
        return (at, _where(closes, _rescaled(state), state)), None

    items = index, index >= opens, closes
    (at, state), _ = jax.lax.scan(body, (at, state), jax.tree.map(jnp.asarray, items))
    return at, jnp.exp(state.log_mean), state.scale


def _averaged(s: Adaptation, acceptance: Array, target: float) -> Adaptation:
    tried = s.tried + 1
    error = s.error + (target - acceptance - s.error) / (tried + 10)
    log_step = s.centre - jnp.sqrt(tried) / 0.05 * error
    weight = tried**-0.75
    log_mean = weight * log_step + (1 - weight) * s.log_mean
    return s._replace(error=error, log_step=log_step, log_mean=log_mean, tried=tried)


def _with(s: Adaptation, z: Array) -> Adaptation:
    length = s.length + 1
    mean = s.mean + (z - s.mean) / length
    return s._replace(length=length, mean=mean, squares=s.squares + (z - s.mean) * (z - mean))


def _rescaled(s: Adaptation) -> Adaptation:
    """The next window's adaptation; few draws count little, as in Stan."""
    chains = s.mean.shape[1]
    variance = s.squares.mean(1, keepdims=True) / jnp.maximum(s.length - 1, 1)
    n = chains * s.length
    scale = jnp.sqrt((n * variance + 5e-3) / (n + 5))
    # No number of the latent moves further than before, whatever the new scale.
    ratio = (s.scale / scale).reshape(len(scale), -1).min(1)
    return _restarted(s.log_mean + jnp.log(ratio), scale, s.mean)


def _restarted(log_step: Array, scale: Array, like: Array) -> Adaptation:
    zero, none = jnp.zeros_like(log_step), jnp.zeros((), log_step.dtype)
    centre, empty = log_step + jnp.log(10.0), jnp.zeros_like(like)
    return Adaptation(centre, zero, log_step, log_step, none, scale, none, empty, empty)


def _where(condition: Array, yes: Adaptation, no: Adaptation) -> Adaptation:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _kinetic(momentum: Array) -> Array:
    return jax.vmap(sum_per_example)(momentum**2) / 2
