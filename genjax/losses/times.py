"""How the time of each training example is drawn: times(key, n) -> t [n] in (0, 1).

Dividing a loss by the density of its times gives the loss of uniform times, in expectation.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, over_batch
from genjax.numerics import check_has, check_static


def _normal_density(value: Array, mean: float, std: float) -> Array:
    return jnp.exp(-0.5 * ((value - mean) / std) ** 2) / (std * (2 * jnp.pi) ** 0.5)


@dataclass(frozen=True)
class Uniform:
    r"""Uniform times, never the ends themselves.

    $$
    t \sim U(\mathrm{low}, \mathrm{high})
    $$

    Args:
      low: the lower end.
      high: the upper end.
    """

    low: float = 0.0
    high: float = 1.0

    def __call__(self, key: Array, n: int) -> Array:
        """Times of n examples.

        Args:
          key: one key, or one per example [n].
          n: number of examples.

        Returns:
          t, [n].

        Raises:
          ValueError: for a batch of keys of another length than n.
        """
        t = self.low + (self.high - self.low) * keys.uniform_times(key, n)
        # The sum rounds to an end where the spacing of floats there is wider than that of draws.
        low, high = (jnp.asarray(end, t.dtype) for end in (self.low, self.high))
        return jnp.clip(t, jnp.nextafter(low, high), jnp.nextafter(high, low))

    def density(self, t: Array) -> Array:
        """The probability density of a time.

        Args:
          t: any shape.

        Returns:
          Like t.
        """
        inside = (t >= self.low) & (t <= self.high)
        return inside / (self.high - self.low)


@dataclass(frozen=True)
class LowDiscrepancy:
    r"""The times of a batch spread evenly, each of them uniform: less variance than `Uniform`.

    $$
    t_i = \left(u + \frac{i}{B}\right) \bmod 1, \qquad u \sim U(0, 1)
    $$

    With one key per example $t_i = (i + u_i)/B$ instead, so that u_i comes from key i alone:
    example i then always stays in stratum i, which only a batch in random order makes uniform.
    Where a mapped axis splits the batch over devices, i and B count the complete batch; a single
    key must be the same on every device.

    Args:
      axis_name: the axis that splits the batch over devices, where one is mapped.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630, appendix I.1.
    """

    axis_name: str | None = over_batch.DATA_AXIS

    def __call__(self, key: Array, n: int) -> Array:
        """Times of n examples.

        Args:
          key: one key, or one per example [n].
          n: number of examples, on this device.

        Returns:
          t, [n].

        Raises:
          ValueError: for a batch of keys of another length than n.
        """
        batch = over_batch.total(n, self.axis_name)
        strata = over_batch.own_rows(jnp.arange(batch, dtype=jnp.float32), n, self.axis_name)
        if keys.is_single(key):
            t = (keys.uniform_times(key, 1) + strata / batch) % 1.0
        else:
            t = (strata + keys.uniform_times(key, n)) / batch
        return jnp.clip(t, 2.0**-24, 1 - 2.0**-24)

    def density(self, t: Array) -> Array:
        """The probability density of a time.

        Args:
          t: any shape.

        Returns:
          Like t.
        """
        return jnp.ones_like(t)


@dataclass(frozen=True)
class Steps:
    r"""The times of a discrete process.

    $$
    t = \frac{i}{\mathrm{steps}}, \qquad i \sim U\{1, \ldots, \mathrm{steps}\}
    $$

    Args:
      steps: of the process.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, algorithm 1.
    """

    steps: int = 1000

    def __call__(self, key: Array, n: int) -> Array:
        """Times of n examples.

        Args:
          key: one key, or one per example [n].
          n: number of examples.

        Returns:
          t, [n].

        Raises:
          ValueError: for a batch of keys of another length than n.
        """
        i = keys.draw(lambda k, shape: jax.random.randint(k, shape, 1, self.steps + 1), key, (n,))
        return i / self.steps


@dataclass(frozen=True)
class LogitNormal:
    r"""Times that favour the middle, as for rectified flow.

    $$
    \mathrm{logit}(t) \sim N(\mathrm{mean}, \mathrm{std}^2)
    $$

    Args:
      mean: the paper's m: above 0 it favours noise.
      std: the paper's s.

    References:
      Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis"
        (2024), arXiv:2403.03206, section 3.1.
    """

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, key: Array, n: int) -> Array:
        """Times of n examples.

        Args:
          key: one key, or one per example [n].
          n: number of examples.

        Returns:
          t, [n].

        Raises:
          ValueError: for a batch of keys of another length than n.
        """
        logits = self.mean + self.std * keys.normal(key, (n,), jnp.float32)
        # float32's sigmoid reaches 1 already at 17.
        return jnp.clip(jax.nn.sigmoid(logits), 2.0**-24, 1 - 2.0**-24)

    def density(self, t: Array) -> Array:
        """The probability density of a time.

        Args:
          t: any shape.

        Returns:
          Like t.
        """
        logit = jnp.log(t) - jnp.log1p(-t)
        return _normal_density(logit, self.mean, self.std) / (t * (1 - t))


@dataclass(frozen=True)
class LogNormal:
    r"""The times at which a schedule has log-normal noise-to-signal ratios, as in EDM.

    $$
    \ln \frac{\sigma(t)}{\alpha(t)} \sim N(\mathrm{mean}, \mathrm{std}^2)
    $$

    With EDM's schedule a rare draw lies below t = 0 or above 1, where that schedule goes on; with
    others it is their time's end.

    Args:
      schedule: the noise schedule, with log_snr, log_snr_derivative and time.
      mean: the paper's P_mean.
      std: the paper's P_std.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
        arXiv:2206.00364, table 1.
    """

    schedule: Any
    mean: float = -1.2
    std: float = 1.2

    def __call__(self, key: Array, n: int) -> Array:
        """Times of n examples.

        Args:
          key: one key, or one per example [n].
          n: number of examples.

        Returns:
          t, [n].

        Raises:
          TypeError: where the schedule is a class or a name in place of an object.
          ValueError: for a batch of keys of another length than n.
        """
        check_has("time log_snr", "schedules.EDM()", schedule=self.schedule)
        log_ratio = self.mean + self.std * keys.normal(key, (n,), jnp.float32)
        return self.schedule.time(-2 * log_ratio)

    def density(self, t: Array) -> Array:
        """The probability density of a time.

        Args:
          t: any shape.

        Returns:
          Like t.
        """
        density = _normal_density(-0.5 * self.schedule.log_snr(t), self.mean, self.std)
        return density * -0.5 * self.schedule.log_snr_derivative(t)


class LossHistory(NamedTuple):
    """The last losses of each step, for drawing the steps in proportion to their size.

    Attributes:
      squares: squared losses, [steps, kept].
      counts: how many losses of each step were ever recorded, [steps].
    """

    squares: Array
    counts: Array


def loss_history(steps: int, kept: int = 10) -> LossHistory:
    """An empty history for the steps 1 … steps of a discrete process.

    Args:
      steps: of the process.
      kept: losses to keep per step.

    Returns:
      A history without losses.

    Raises:
      TypeError: where an argument is traced.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
        arXiv:2102.09672, section 3.3.
    """
    check_static(steps=steps, kept=kept)
    return LossHistory(jnp.zeros((steps, kept)), jnp.zeros(steps, jnp.int32))


def probabilities(history: LossHistory, uniform: float = 1e-3) -> Array:
    r"""The probability of each step, in proportion to its root mean square loss.

    $$
    p_i \propto \sqrt{\mathrm{E}[L_i^2]}
    $$

    mixed with a share of uniform steps; uniform until the history is full.

    Args:
      history: of losses.
      uniform: the share of uniform steps, in 0..1.

    Returns:
      [steps], of sum 1.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
        arXiv:2102.09672, eq. 18.
    """
    steps, kept = history.squares.shape
    size = jnp.sqrt(jnp.mean(history.squares, axis=1))
    total = jnp.sum(size)
    # Losses that are all zero leave nothing to be proportional to.
    share = jnp.where(total > 0, size / jnp.where(total > 0, total, 1), 1 / steps)
    mixed = (1 - uniform) * share + uniform / steps
    return jnp.where(jnp.all(history.counts >= kept), mixed, 1 / steps)


def importance(
    history: LossHistory, key: Array, n: int, uniform: float = 1e-3
) -> tuple[Array, Array]:
    r"""Times drawn from `probabilities`, and the weights that keep the loss's expectation.

    $$
    t = \frac{i}{\mathrm{steps}}, \quad i \sim p, \qquad w = \frac{1}{\mathrm{steps} \cdot p_i}
    $$

    The weighted losses average to those of uniform steps, with less variance.

    Args:
      history: of losses.
      key: one key, or one per example [n].
      n: number of examples.
      uniform: the share of uniform steps, in 0..1.

    Returns:
      t and w, each [n].

    Raises:
      ValueError: for a batch of keys of another length than n.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
        arXiv:2102.09672, section 3.3.
    """
    p = probabilities(history, uniform)
    steps = p.shape[0]
    drawn = keys.draw(
        lambda k, shape: jax.random.categorical(k, jnp.log(p), shape=shape), key, (n,)
    )
    return (drawn + 1) / steps, 1 / (steps * p[drawn])


def record(
    history: LossHistory, t: Array, losses: Array, axis_name: str | None = over_batch.DATA_AXIS
) -> LossHistory:
    """Adds the losses of a batch, each in place of the oldest of its step.

    Where a mapped axis splits the batch over devices, every device records all of it.

    Args:
      history: of losses.
      t: the times of the batch, [n].
      losses: unweighted, [n].
      axis_name: the axis that splits the batch over devices, where one is mapped.

    Returns:
      The history with these losses.

    Raises:
      ValueError: where the shapes of t and losses differ.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
        arXiv:2102.09672, section 3.3.
    """
    if t.shape != losses.shape:
        raise ValueError(f"t and losses must both be [n]: got {t.shape} and {losses.shape}")
    t, losses = (over_batch.gather(v, axis_name) for v in (t, losses))
    steps, kept = history.squares.shape
    indices = jnp.clip(jnp.round(t * steps).astype(jnp.int32) - 1, 0, steps - 1)

    # One after the other: a step may occur more than once in a batch.
    def add(state: LossHistory, item: tuple[Array, Array]) -> tuple[LossHistory, None]:
        index, loss = item
        squares = state.squares.at[index, state.counts[index] % kept].set(loss**2)
        return LossHistory(squares, state.counts.at[index].add(1)), None

    losses = jax.lax.stop_gradient(losses).astype(history.squares.dtype)
    return jax.lax.scan(add, history, (indices, losses))[0]
