"""How the time of each training example is drawn: times(key, n) -> t [n] in (0, 1)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# key is one PRNG key, or one per example [n]. density(t) is the probability density of a draw:
# dividing a loss by it gives the loss of uniform times, in expectation.


def _is_batch(key):
    return key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)


def _draw(sample, key, n):
    """sample(key, shape) for n examples."""
    if not _is_batch(key):
        return sample(key, (n,))
    if key.shape[0] != n:
        raise ValueError(f"give one key, or one per example: {key.shape[0]} keys for {n} times")
    return jax.vmap(lambda k: sample(k, ()))(key)


def _open_uniform(key, shape):
    # Draws are multiples of 2⁻²³; half a cell more keeps them off 0, where log_snr may be ∞.
    return jax.random.uniform(key, shape, jnp.float32) + 2.0**-24


def _normal_density(value, mean, std):
    return jnp.exp(-0.5 * ((value - mean) / std) ** 2) / (std * (2 * jnp.pi) ** 0.5)


@dataclass(frozen=True)
class Uniform:
    """t ~ U(low, high), never low nor high themselves."""

    low: float = 0.0
    high: float = 1.0

    def __call__(self, key, n):
        return self.low + (self.high - self.low) * _draw(_open_uniform, key, n)

    def density(self, t):
        inside = (t >= self.low) & (t <= self.high)
        return inside / (self.high - self.low)


@dataclass(frozen=True)
class LowDiscrepancy:
    """t_i = (u + i/n) mod 1 with one u ~ U(0, 1): n times spread evenly, each of them uniform.

    Kingma et al. 2021, "Variational Diffusion Models". With one key per example
    t_i = (i + u_i)/n instead, so that u_i comes from key i alone: example i then always stays in
    stratum i, which only a batch in random order makes uniform.
    """

    def __call__(self, key, n):
        strata = jnp.arange(n, dtype=jnp.float32)
        if _is_batch(key):
            t = (strata + _draw(_open_uniform, key, n)) / n
        else:
            t = (_open_uniform(key, ()) + strata / n) % 1.0
        return jnp.clip(t, 2.0**-24, 1 - 2.0**-24)

    def density(self, t):
        return jnp.ones_like(t)


@dataclass(frozen=True)
class Steps:
    """t = i/steps, i uniform on 1 … steps: the times of a discrete process. Ho et al. 2020."""

    steps: int = 1000

    def __call__(self, key, n):
        drawn = _draw(lambda k, shape: jax.random.randint(k, shape, 1, self.steps + 1), key, n)
        return drawn / self.steps


@dataclass(frozen=True)
class LogitNormal:
    """logit(t) ~ N(mean, std²).

    Esser et al. 2024, "Scaling Rectified Flow Transformers", section 3.1; their s and m.
    """

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, key, n):
        drawn = _draw(lambda k, shape: jax.random.normal(k, shape, jnp.float32), key, n)
        # float32's sigmoid reaches 1 already at 17.
        return jnp.clip(jax.nn.sigmoid(self.mean + self.std * drawn), 2.0**-24, 1 - 2.0**-24)

    def density(self, t):
        logit = jnp.log(t) - jnp.log1p(-t)
        return _normal_density(logit, self.mean, self.std) / (t * (1 - t))


@dataclass(frozen=True)
class LogNormal:
    """ln(σ/α) ~ N(mean, std²), as the t at which the schedule has that noise-to-signal ratio.

    Karras et al. 2022, table 1: P_mean = −1.2, P_std = 1.2. With EDM's schedule a rare draw lies
    below t = 0 or above 1, where that schedule goes on; with others it is their time's end.
    """

    schedule: Any
    mean: float = -1.2
    std: float = 1.2

    def __call__(self, key, n):
        drawn = _draw(lambda k, shape: jax.random.normal(k, shape, jnp.float32), key, n)
        return self.schedule.time(-2 * (self.mean + self.std * drawn))

    def density(self, t):
        density = _normal_density(-0.5 * self.schedule.log_snr(t), self.mean, self.std)
        return density * -0.5 * self.schedule.log_snr_derivative(t)


class LossHistory(NamedTuple):
    """The last losses of each step, for drawing the steps in proportion to their size."""

    squares: jax.Array  # [steps, kept] squared losses
    counts: jax.Array  # [steps] how many were ever recorded


def loss_history(steps, kept=10) -> LossHistory:
    """An empty history of `kept` losses for each of the steps 1 … steps."""
    return LossHistory(jnp.zeros((steps, kept)), jnp.zeros(steps, jnp.int32))


def probabilities(history: LossHistory, uniform=1e-3):
    """p_i ∝ √E[L_i²], mixed with a share `uniform` of 1/steps; 1/steps until every row is full.

    Nichol & Dhariwal 2021, eq. 18; [steps].
    """
    steps, kept = history.squares.shape
    size = jnp.sqrt(jnp.mean(history.squares, axis=1))
    total = jnp.sum(size)
    # Losses that are all zero leave nothing to be proportional to.
    share = jnp.where(total > 0, size / jnp.where(total > 0, total, 1), 1 / steps)
    mixed = (1 - uniform) * share + uniform / steps
    return jnp.where(jnp.all(history.counts >= kept), mixed, 1 / steps)


def importance(history: LossHistory, key, n, uniform=1e-3):
    """t = i/steps with i drawn from `probabilities`, and the weights 1/(steps·p_i): both [n].

    The weighted losses at these times average to those of uniform steps, with less variance.
    Nichol & Dhariwal 2021, section 3.3.
    """
    p = probabilities(history, uniform)
    steps = p.shape[0]
    drawn = _draw(lambda k, shape: jax.random.categorical(k, jnp.log(p), shape=shape), key, n)
    return (drawn + 1) / steps, 1 / (steps * p[drawn])


def record(history: LossHistory, t, losses) -> LossHistory:
    """The history with the losses [n] (unweighted) at t [n] added, each replacing its oldest.

    Nichol & Dhariwal 2021, section 3.3.
    Under pmap, gather t and losses of all devices first, so that every copy stays the same.
    """
    if t.shape != losses.shape:
        raise ValueError(f"t and losses must both be [n]: got {t.shape} and {losses.shape}")
    steps, kept = history.squares.shape
    indices = jnp.clip(jnp.round(t * steps).astype(jnp.int32) - 1, 0, steps - 1)

    # One after the other: a step may occur more than once in a batch.
    def add(state, item):
        index, loss = item
        squares = state.squares.at[index, state.counts[index] % kept].set(loss**2)
        return LossHistory(squares, state.counts.at[index].add(1)), None

    losses = jax.lax.stop_gradient(losses).astype(history.squares.dtype)
    return jax.lax.scan(add, history, (indices, losses))[0]
