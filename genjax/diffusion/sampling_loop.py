"""The loop that every sampler shares: step grid, start, estimates of data and noise, scan."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.diffusion.protocols import Clip, Schedule, Target
from genjax.numerics import check_floats, check_has, check_no_function, is_traced, widen

MOST_SIGNAL = 0.1  # α/σ at the start up to which z counts as noise; 0.08 in VDM, 0.006 in DDPM

# The network estimates the data x̂ and the noise ε̂ in z_t = α x̂ + σ ε̂, and z moves along
# dz = x̂ dα + ε̂ dσ. That is the probability-flow equation without a derivative in time, so that it
# holds for every schedule and stays finite where α = 0 or σ = 0.


class Row(NamedTuple):
    """One step, from time t to the next time s: scalars inside the loop, columns [n] outside.

    Attributes:
      draw: number of the step's random draw, from 1; 0 is the start.
      t: the time t.
      t_next: the time s.
      alpha: α_t.
      sigma: σ_t.
      alpha_next: α_s; 1 at clean data.
      sigma_next: σ_s; 0 at clean data.
      kappa: 1 − SNR_t/SNR_s, the share of the noise at t that s does not have.
      h: difference ℓ_s − ℓ_t of the half log-SNR ℓ = log(α/σ); ∞ to clean data.
    """

    draw: Array
    t: Array
    t_next: Array
    alpha: Array
    sigma: Array
    alpha_next: Array
    sigma_next: Array
    kappa: Array
    h: Array

    def ddim(self, data: Array, noise: Array, drawn: Array, eta: float | Array) -> Array:
        r"""The step of DDIM from estimates of data and noise at t.

        $$
        z_s = \alpha_s \hat x + \sigma_s \sqrt{1 - \eta^2 \kappa}\; \hat\epsilon
          + \sigma_s\, \eta \sqrt{\kappa}\; \xi
        $$

        Args:
          data: x̂, [B, ...].
          noise: ε̂, [B, ...].
          drawn: ξ ~ N(0, I), [B, ...].
          eta: η, 0 for a deterministic step, 1 for one of the reverse chain of DDPM.

        Returns:
          z_s, [B, ...].

        References:
          Song et al., "Denoising Diffusion Implicit Models" (2021), arXiv:2010.02502, eq. 12.
        """
        share = eta**2 * self.kappa
        predicted = self.sigma_next * jnp.sqrt(1 - share)
        std = self.sigma_next * jnp.sqrt(share)
        return self.alpha_next * data + predicted * noise + std * drawn


def rows(schedule: Schedule, steps: Array) -> Row:
    """The steps of a grid of times, as columns.

    Args:
      schedule: has alpha(t), sigma(t) and log_snr(t).
      steps: times [n + 1].

    Returns:
      A `Row` of columns [n]. A last time of 0 is clean data, though σ(0) > 0 in VE and EDM.

    Raises:
      TypeError: where `schedule` is a class or a name in place of an object.
      ValueError: where `steps` is not a vector of two times or more, or not in 0..1.
    """
    check_has("alpha sigma log_snr", "schedules.VP()", schedule=schedule)
    steps = jnp.asarray(keys.check_times(steps, "steps"), float)
    if steps.ndim != 1 or steps.size < 2:
        raise ValueError(f"steps must be times [n + 1] with n >= 1, not of shape {steps.shape}")
    alpha, sigma, log_snr = schedule.alpha(steps), schedule.sigma(steps), schedule.log_snr(steps)
    clean = steps[-1] == 0
    h = jnp.diff(log_snr) / 2
    return Row(
        draw=jnp.arange(1, steps.size),
        t=steps[:-1],
        t_next=steps[1:],
        alpha=alpha[:-1],
        sigma=sigma[:-1],
        alpha_next=alpha[1:].at[-1].set(jnp.where(clean, 1, alpha[-1])),
        sigma_next=sigma[1:].at[-1].set(jnp.where(clean, 0, sigma[-1])),
        # From log-SNRs, as 1 − (α_t σ_s / α_s σ_t)² loses every digit when steps are small.
        kappa=-jnp.expm1(log_snr[:-1] - log_snr[1:]),
        h=h.at[-1].set(jnp.where(clean, jnp.inf, h[-1])),
    )


class SamplingLoop:
    """One run of a sampler, less the formula of its step.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names; of z and
        the times that `output` is given, where it is given some.
      key: one PRNG key, one per example [B], or None where nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t).
      target: has to_data(prediction, z, alpha, sigma).
      steps: times [n + 1].
      start: z at steps[0], of `shape`; None to draw it as σ ε. Its dtype is what `predict` sees
        and what is returned; states are in float32 at least.
      clip: (low, high), or a function of x̂, applied to every x̂; None for none.
      trajectory: whether to return every state as well.
      strict: whether no two times may be the same.
      encodes: whether the times may also increase, from data to noise.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `start` is of integers or not of `shape`, or the times are not in order.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        key: Array | None,
        shape: Sequence[int],
        *,
        schedule: Schedule,
        target: Target,
        steps: Array,
        start: Array | None,
        clip: Clip | None,
        trajectory: bool,
        strict: bool = False,
        encodes: bool = False,
    ) -> None:
        check_has("to_data", "predictions.noise", target=target)
        self.rows = rows(schedule, steps)
        self._from_data = encodes and start is not None
        check_order(steps, strict=strict, encodes=self._from_data)
        _check_clip(clip)
        self._predict, self._target, self._clip = predict, target, clip
        self._key, self._shape, self._trajectory = key, tuple(shape), trajectory
        if start is None:
            _check_start(schedule, target, steps)
            sigma = self.rows.sigma
            start = sigma[0] * _normal(key, 0, self._shape, sigma.dtype)
        elif start.shape != self._shape:
            raise ValueError(f"start has shape {start.shape}, but shape is {self._shape}")
        check_floats(start=start)
        self._dtype, self.start = start.dtype, widen(start)

    def output(self, z: Array, row: Row, *times: Array) -> Any:
        """The network's output at a state.

        Args:
          z: [B, ...].
          row: the step that begins at z.
          *times: what `predict` takes beside z; none for the time of the row.

        Returns:
          predict(z, *times), as it is.
        """
        full = [jnp.full(z.shape[:1], t) for t in times or (row.t,)]
        return self._predict(z.astype(self._dtype), *full)

    def data(self, z: Array, row: Row) -> Array:
        """The network's estimate of the data at a state.

        Args:
          z: [B, ...].
          row: the step that begins at z.

        Returns:
          x̂, clipped, [B, ...]; of no use where σ = 0, unlike that of `data_and_noise`.
        """
        return self.clipped(self._to_data(self.output(z, row), z, row))

    def data_and_pullback(self, z: Array, row: Row) -> tuple[Array, Callable[[Array], Array]]:
        r"""The estimate of the data at a state, and its derivative's transpose.

        $$
        u \mapsto \Bigl(\frac{\partial \hat x}{\partial z}\Bigr)^{\!\top} u
        $$

        The derivative is that of the estimate before it is clipped, so that pixels at a bound can
        move away from it; and 0 where α = 0 and z does not depend on the data.

        Args:
          z: [B, ...].
          row: the step that begins at z.

        Returns:
          x̂, clipped, [B, ...], of no use where σ = 0; and the function of u, [B, ...].
        """
        data, pullback = jax.vjp(lambda z: self._to_data(self.output(z, row), z, row), z)
        return self.clipped(data), lambda u: jnp.where(row.alpha > 0, pullback(u)[0], 0)

    def data_and_noise(self, z: Array, row: Row) -> tuple[Array, Array]:
        """The network's estimates of data and noise at a state.

        Args:
          z: [B, ...].
          row: the step that begins at z.

        Returns:
          (x̂, ε̂) with z = α x̂ + σ ε̂, x̂ clipped; each [B, ...].
        """
        return self.split(self.output(z, row), z, row)

    def split(self, prediction: Array, z: Array, row: Row) -> tuple[Array, Array]:
        """The estimates of data and noise that a prediction implies.

        Args:
          prediction: what `target` names, [B, ...].
          z: [B, ...].
          row: the step that begins at z.

        Returns:
          (x̂, ε̂) with z = α x̂ + σ ε̂, x̂ clipped; each [B, ...]. Where σ = 0, z is the data and
          ε̂ is 0, or in a loop that encodes that of the prediction, see `noise_in_data`.
        """
        data = self._to_data(prediction, z, row)
        data = self.clipped(jnp.where(row.sigma > 0, data, z / positive(row.alpha)))
        implied: Array | int = 0
        if self._from_data:  # times that fall never step away from σ = 0
            args = prediction.astype(z.dtype), z, row.alpha, row.sigma
            implied = noise_in_data(self._target, *args)
        noise = jnp.where(row.sigma > 0, (z - row.alpha * data) / positive(row.sigma), implied)
        return data, noise

    def _to_data(self, prediction: Array, z: Array, row: Row) -> Array:
        shape = getattr(prediction, "shape", type(prediction).__name__)
        if shape != z.shape:
            raise ValueError(f"predict returned shape {shape} for z of shape {z.shape}")
        return self._target.to_data(prediction.astype(z.dtype), z, row.alpha, row.sigma)

    def clipped(self, data: Array) -> Array:
        """Estimates of the data within the bounds that the sampler was given.

        Args:
          data: x̂, [B, ...].

        Returns:
          x̂, clipped, [B, ...].
        """
        if self._clip is None:
            return data
        if not callable(self._clip):
            return jnp.clip(data, *self._clip)
        clipped = self._clip(data)
        check_no_function(clip=clipped)
        return clipped

    def normal(self, row: Row) -> Array:
        """The random draw of the step.

        Args:
          row: the step.

        Returns:
          N(0, I) of the sampler's shape; with one key per example, example i's from key i alone.
        """
        return _normal(self._key, row.draw, self._shape, self.start.dtype)

    def scan(
        self, step: Callable[[Any, Any], tuple[Any, Array]], carry: Any, items: Any
    ) -> tuple[Any, Array | None]:
        """`jax.lax.scan` over the items of a sampler, recording one state per item.

        Args:
          step: (carry, item) -> (carry, state to record).
          carry: what the first step gets.
          items: any tree of columns, one row per evaluation of the network.

        Returns:
          The last carry; and the recorded states, or None without `trajectory`.
        """

        def body(carry: Any, item: Any) -> tuple[Any, Array | None]:
            carry, state = step(carry, item)
            return carry, state.astype(self._dtype) if self._trajectory else None

        return jax.lax.scan(body, carry, items)

    def result(self, last: Array, path: Array | None, inner: slice) -> Array | tuple[Array, Array]:
        """What the sampler returns.

        Args:
          last: the last state, [B, ...].
          path: the states that `scan` recorded, or None.
          inner: which of them lie between the start and the last state.

        Returns:
          The last state; with `trajectory`, also all states [n + 1, B, ...].
        """
        last = last.astype(self._dtype)
        if path is None:
            return last
        start = self.start.astype(self._dtype)
        return last, jnp.concatenate([start[None], path[inner], last[None]])

    def run(
        self, step: Callable[[Array, Any], Array], items: Any = None, every: int = 1
    ) -> Array | tuple[Array, Array]:
        """The loop of a sampler that remembers nothing but its state.

        Args:
          step: (z, item) -> z.
          items: any tree of columns, one row per evaluation of the network; None for `rows`.
          every: items per step.

        Returns:
          The last state; with `trajectory`, also all states [n + 1, B, ...].
        """

        def both(z: Array, item: Any) -> tuple[Array, Array]:
            z = step(z, item)
            return z, z

        last, path = self.scan(both, self.start, self.rows if items is None else items)
        return self.result(last, path, slice(every - 1, -1, every))


def signal(schedule: Schedule, t: Array | float) -> float | None:
    r"""How much of the data is left at a time, before anything is computed from it.

    $$
    \frac{\alpha(t)}{\sigma(t)}
    $$

    A sampler that starts from noise misses that much of the data's mean and spread.

    Args:
      schedule: has alpha(t) and sigma(t).
      t: one time.

    Returns:
      The ratio; None where schedule or time is traced.
    """
    try:
        with jax.ensure_compile_time_eval():
            return float(schedule.alpha(t) / schedule.sigma(t))
    except jax.errors.ConcretizationTypeError:
        return None


def _check_start(schedule: Schedule, target: Target, steps: Array) -> None:
    """Warns where a sampler cannot start from noise."""
    traced = is_traced(steps)
    left = signal(schedule, 1.0 if traced else jnp.asarray(steps, float)[0])
    if left is not None and not left <= MOST_SIGNAL:
        warnings.warn(
            f"sampling starts from noise alone, where the schedule has alpha/sigma = {left:.2g}: "
            f"take one that ends below {MOST_SIGNAL}, as linear betas scaled by 1000/steps do "
            "(DiscreteLinear.scaled), or give `start`",
            stacklevel=4,
        )
    if left == 0 and not traced and _silent(target):
        warnings.warn(
            "sampling starts at alpha = 0, where this target determines no data: start at an "
            "earlier time, or predict the velocity or the data",
            stacklevel=4,
        )


def _silent(target: Target) -> bool:
    """Whether a prediction of pure noise says nothing of the data."""
    try:
        with jax.ensure_compile_time_eval():
            data = target.to_data(jnp.zeros(1), jnp.ones(1), jnp.zeros(()), jnp.ones(()))
            return not bool(jnp.isfinite(data).all())
    except jax.errors.ConcretizationTypeError:
        return False


def noise_in_data(target: Target, prediction: Array, z: Array, alpha: Array, sigma: Array) -> Array:
    r"""The noise that a prediction implies where σ = 0: the direction in which data are encoded.

    $$
    \hat x = \frac{z - \sigma \hat\epsilon}{\alpha} \quad\Rightarrow\quad
    \hat\epsilon = -\alpha \frac{\partial \hat x}{\partial \sigma} \Big|_{\sigma = 0}
    $$

    Of independent pairs of data and noise it is 0, but not of pairs by optimal transport or reflow.

    Args:
      target: has to_data(prediction, z, alpha, sigma).
      prediction: what `target` names, [B, ...].
      z: [B, ...].
      alpha: α, a scalar.
      sigma: σ, a scalar.

    Returns:
      ε̂ [B, ...]. 0 for data and score, which determine none, and where the prediction is not
      finite, as that of a closed form with a division by σ; of no use where σ > 0.
    """
    # At pure noise, where α = 0, the unused value must not spoil a gradient.
    alpha = jnp.where(sigma > 0, 1, alpha)
    zero = jnp.zeros_like(sigma)

    def estimate(sigma: Array) -> Array:
        return target.to_data(prediction, z, alpha, sigma)

    noise = -alpha * jax.jvp(estimate, (zero,), (jnp.ones_like(zero),))[1]
    return jnp.where(jnp.isfinite(noise), noise, 0)


def check_order(steps: Array, *, strict: bool = False, encodes: bool = False) -> None:
    """Checks that times are in the order that a sampler takes them in, where they are known.

    Args:
      steps: times [n + 1].
      strict: whether no two times may be the same.
      encodes: whether the times may also increase, from data to noise.

    Raises:
      ValueError: where they are not.
    """
    if is_traced(steps):
        return
    with jax.ensure_compile_time_eval():
        change = jnp.diff(jnp.asarray(steps, float))
        falls = bool((change < 0).all() if strict else (change <= 0).all())
        if not falls and not (encodes and bool((change >= 0).all())):
            raise ValueError(
                f"steps must {'strictly ' * strict}decrease from 1 (noise) to 0 (data): flip times "
                "that increase; samplers.encode leads from data to noise"
            )


def _check_clip(clip: Any) -> None:
    pair = isinstance(clip, tuple | list | jax.Array) and len(clip) == 2
    if clip is None or callable(clip) or pair:
        return
    raise TypeError(f"clip must be (low, high), a function of data, or None, not {clip!r}")


def positive(x: Array) -> Array:
    """A divisor that is safe where its quotient is not used.

    Args:
      x: numbers >= 0.

    Returns:
      x, and 1 where x is 0.
    """
    return jnp.where(x > 0, x, 1)


def earlier(x: Array, fill: float, by: int = 1) -> Array:
    """What a number of each step was some steps before.

    Args:
      x: a number of each step, [n].
      fill: what stands before the first step.
      by: how many steps.

    Returns:
      [n].
    """
    return jnp.concatenate([jnp.full(by, fill, x.dtype), x])[: x.size]


def _normal(key: Array | None, index: int | Array, shape: tuple[int, ...], dtype: Any) -> Array:
    if key is None:
        raise ValueError("this sampler draws noise: give it a key")
    return keys.normal(keys.fold_in(key, index), shape, dtype)
