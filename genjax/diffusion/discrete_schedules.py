"""Noise schedules of DDPM's kind, given by β_1 … β_T, as functions of a time in [0, 1]."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from genjax.diffusion.protocols import DifferentiableSchedule
from genjax.numerics import check_has, check_static, widen


class _Discrete(DifferentiableSchedule):
    """What the discrete schedules share: everything but the betas."""

    if TYPE_CHECKING:

        @property
        def betas(self) -> tuple[float, ...]: ...

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            values = value if isinstance(value, tuple | list) else [value]
            for each in values:
                check_static(**{name: each})

    @cached_property
    def _table(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        # In Python's float64; plain floats, because an array made under jit must not outlive it.
        steps = (-0.5 * math.log1p(-b) if b < 1 else math.inf for b in self.betas)
        nodes = [0.0, *accumulate(steps)]
        return tuple(math.exp(-n) for n in nodes), tuple(-math.expm1(-n) for n in nodes)

    @cached_property
    def _log_nsr(self) -> tuple[float, ...]:
        # At the inner steps only: the first and the last may be infinite.
        alphas, rests = self._table
        inner = (
            math.log(d) + math.log1p(a) - 2 * math.log(a)
            for a, d in zip(alphas[1:-1], rests[1:-1], strict=True)
        )
        return tuple(inner)

    def _segment(self, t: ArrayLike) -> tuple[Array, Array, Array, Array, Array]:
        """α at both ends of t's segment, 1 − α at both ends, and the place of t between them."""
        place = widen(t) * len(self.betas)
        index = jnp.clip(jnp.floor(place), 0, len(self.betas) - 1).astype(jnp.int32)
        return *self._ends(index, place.dtype), place - index

    def _ends(self, index: Array, dtype: Any) -> tuple[Array, Array, Array, Array]:
        alphas, rests = (jnp.asarray(column, dtype) for column in self._table)
        return alphas[index], alphas[index + 1], rests[index], rests[index + 1]

    def _alpha_and_rest(self, t: ArrayLike) -> tuple[Array, Array]:
        """α and 1 − α, each with all its digits."""
        alpha, next_alpha, rest, next_rest, place = self._segment(t)
        return alpha + place * (next_alpha - alpha), rest + place * (next_rest - rest)

    def alpha(self, t: ArrayLike) -> Array:
        return self._alpha_and_rest(t)[0]

    def sigma(self, t: ArrayLike) -> Array:
        alpha, rest = self._alpha_and_rest(t)
        return jnp.sqrt(rest * (1 + alpha))

    def log_snr(self, t: ArrayLike) -> Array:
        alpha, rest = self._alpha_and_rest(t)
        return 2 * jnp.log(alpha) - jnp.log(rest) - jnp.log1p(alpha)

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        # At t = i/T of the segment that begins there.
        _, _, rest, next_rest, _ = self._segment(t)
        alpha, here = self._alpha_and_rest(t)
        return -2 * len(self.betas) * (next_rest - rest) / (alpha * here * (1 + alpha))

    def time(self, log_snr: ArrayLike) -> Array:
        log_snr = widen(log_snr)
        alpha = jnp.exp(-0.5 * jax.nn.softplus(-log_snr))
        rest = jnp.exp(-jax.nn.softplus(log_snr)) / (1 + alpha)
        index = jnp.searchsorted(jnp.asarray(self._log_nsr, log_snr.dtype), -log_snr, side="right")
        alpha_0, alpha_1, rest_0, rest_1 = self._ends(index, log_snr.dtype)
        # Whichever of α and 1 − α is small carries the digits.
        place = jnp.where(
            rest < 0.5, (rest - rest_0) / (rest_1 - rest_0), (alpha_0 - alpha) / (alpha_0 - alpha_1)
        )
        return (index + jnp.clip(place, 0, 1)) / len(self.betas)


@dataclass(frozen=True)
class Discrete(_Discrete):
    r"""Any forward process given by its β_1 … β_T.

    $$
    \bar\alpha_i = \prod_{j \le i} (1 - \beta_j) \ \text{ at } t = i/T, \qquad
    \alpha = \sqrt{\bar\alpha}, \qquad \sigma = \sqrt{1 - \bar\alpha}
    $$

    α is linear in t between the steps.

    Args:
      betas: β_1 … β_T, each in (0, 1]; only the last may be 1.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 4.
    """

    betas: tuple[float, ...]


@dataclass(frozen=True)
class DiscreteLinear(_Discrete):
    r"""The linear β of DDPM.

    $$
    \beta_i = \beta_1 + \frac{i - 1}{T - 1} (\beta_T - \beta_1), \qquad
    \bar\alpha_i = \prod_{j \le i} (1 - \beta_j) \ \text{ at } t = i/T
    $$

    α = √ᾱ is linear in t between the steps, and σ² = 1 − α². The defaults are made for 1,000
    steps; fewer of the same betas end with signal left: take `scaled`.

    Args:
      steps: T.
      beta_start: β_1.
      beta_end: β_T.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, section 4.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    @classmethod
    def scaled(cls, steps: int) -> "DiscreteLinear":
        r"""The chain of 1,000 steps in another number of steps, which ends in as much noise.

        $$
        \beta_i = \frac{1000}{T} \Bigl(10^{-4} + \frac{i - 1}{T - 1} (0.02 - 10^{-4})\Bigr)
        $$

        Args:
          steps: T > 20.

        Returns:
          The schedule; of 1,000 steps, `DiscreteLinear()`.

        Raises:
          ValueError: where β_T would reach 1.

        References:
          Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
          arXiv:2102.09672, their code.
        """
        if steps <= 20:
            raise ValueError(f"linear betas need more than 20 steps, not {steps}")
        return cls(steps, 1000 / steps * 1e-4, 1000 / steps * 0.02)

    @property
    def betas(self) -> tuple[float, ...]:
        """The variances that the process adds.

        Returns:
          β_1 … β_T, T floats.
        """
        width = (self.beta_end - self.beta_start) / max(self.steps - 1, 1)
        return tuple(self.beta_start + i * width for i in range(self.steps))


@dataclass(frozen=True)
class DiscreteCosine(_Discrete):
    r"""The cosine ᾱ of improved DDPM, with its bound on β.

    $$
    \beta_i = \min\Bigl(1 - \frac{f(i/T)}{f((i-1)/T)},\; \beta_\max\Bigr), \qquad
    f(u) = \cos^2\Bigl(\frac{u + s}{1 + s} \cdot \frac{\pi}{2}\Bigr)
    $$

    ᾱ_i is the product of 1 − β_j at t = i/T, α = √ᾱ is linear in t between the steps, and
    σ² = 1 − α².

    Args:
      steps: T.
      s: the offset, which keeps the first β from vanishing.
      max_beta: β_max.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
      arXiv:2102.09672, eq. 17.
    """

    steps: int = 1000
    s: float = 0.008
    max_beta: float = 0.999

    @property
    def betas(self) -> tuple[float, ...]:
        """The variances that the process adds.

        Returns:
          β_1 … β_T, T floats.
        """
        angles = ((i / self.steps + self.s) / (1 + self.s) * math.pi / 2 for i in range(self.steps))
        bars = [math.cos(angle) ** 2 for angle in angles] + [0.0]
        return tuple(min(1 - after / before, self.max_beta) for before, after in pairwise(bars))


def zero_terminal_snr(schedule: Discrete | DiscreteLinear | DiscreteCosine) -> Discrete:
    r"""The same steps rescaled to end without signal: √ᾱ_T = 0 while √ᾱ_1 stays.

    $$
    \sqrt{\bar\alpha_i'} = \bigl(\sqrt{\bar\alpha_i} - \sqrt{\bar\alpha_T}\bigr)
      \frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1} - \sqrt{\bar\alpha_T}}
    $$

    A noise prediction determines no data at SNR 0: train velocity (or data) with it.

    Args:
      schedule: a discrete schedule of three steps or more.

    Returns:
      The rescaled schedule.

    Raises:
      TypeError: where `schedule` is a class, or no discrete schedule.

    References:
      Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2024),
      arXiv:2305.08891, algorithm 1.
    """
    check_has("betas", "discrete_schedules.DiscreteLinear()", schedule=schedule)
    _, first, *_, last = schedule._table[0]
    rescaled = [1.0, *((a - last) * first / (first - last) for a in schedule._table[0][1:])]
    return Discrete(tuple(1 - (after / before) ** 2 for before, after in pairwise(rescaled)))
