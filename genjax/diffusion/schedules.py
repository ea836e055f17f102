"""Continuous noise schedules: z_t = α(t) x + σ(t) ε, t = 0 at the data and t = 1 at the noise.

Five functions each (`protocols.DifferentiableSchedule`), written so that float32 keeps its relative
accuracy down to t = 0 and up to t = 1, where log-SNR is ±∞ for the schedules that reach clean data
or pure noise.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from genjax.diffusion.protocols import DifferentiableSchedule
from genjax.numerics import check_has, math_of, widen


@dataclass(frozen=True)
class RectifiedFlow(DifferentiableSchedule):
    r"""Straight lines from data to noise.

    $$
    \alpha = 1 - t, \qquad \sigma = t
    $$

    References:
      Liu et al., "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
      Flow" (2022), arXiv:2209.03003.
      Lipman et al., "Flow Matching for Generative Modeling" (2022), arXiv:2210.02747.
    """

    def alpha(self, t: ArrayLike) -> Array:
        return 1 - widen(t)

    def sigma(self, t: ArrayLike) -> Array:
        return widen(t)

    def log_snr(self, t: ArrayLike) -> Array:
        t = widen(t)
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        t = widen(t)
        return -2 / (t * (1 - t))

    def time(self, log_snr: ArrayLike) -> Array:
        return jax.nn.sigmoid(-widen(log_snr) / 2)


@dataclass(frozen=True)
class VP(DifferentiableSchedule):
    r"""The variance-preserving SDE with a linear β(t): `DiscreteLinear` in the limit of many steps.

    $$
    \alpha = e^{-B/2}, \qquad \sigma^2 = 1 - e^{-B}, \qquad
    B(t) = \beta_\min t + (\beta_\max - \beta_\min)\, t^2 / 2
    $$

    Args:
      beta_min: β(0), >= 0.
      beta_max: β(1).

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, appendix C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _integral(self, t: Array) -> Array:
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def _beta(self, t: Array) -> Array:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _time(self, integral: Array) -> Array:
        # The form of the quadratic's root that neither subtracts nor fails at B = 0 and B = ∞.
        rate = self.beta_min / integral
        slope = self.beta_max - self.beta_min
        return 2 / (rate + jnp.sqrt(rate**2 + 2 * slope / integral))

    def alpha(self, t: ArrayLike) -> Array:
        return jnp.exp(-0.5 * self._integral(widen(t)))

    def sigma(self, t: ArrayLike) -> Array:
        return jnp.sqrt(-jnp.expm1(-self._integral(widen(t))))

    def log_snr(self, t: ArrayLike) -> Array:
        integral = self._integral(widen(t))
        return -integral - jnp.log(-jnp.expm1(-integral))

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        t = widen(t)
        return self._beta(t) / jnp.expm1(-self._integral(t))

    def time(self, log_snr: ArrayLike) -> Array:
        return self._time(jax.nn.softplus(-widen(log_snr)))


@dataclass(frozen=True)
class SubVP(VP):
    r"""The sub-VP SDE, with the B(t) of `VP`: less variance than 1 in between.

    $$
    \alpha = e^{-B/2}, \qquad \sigma = 1 - e^{-B}
    $$

    Args:
      beta_min: β(0), >= 0.
      beta_max: β(1).

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, appendix C.
    """

    def sigma(self, t: ArrayLike) -> Array:
        return -jnp.expm1(-self._integral(widen(t)))

    def log_snr(self, t: ArrayLike) -> Array:
        integral = self._integral(widen(t))
        return -integral - 2 * jnp.log(-jnp.expm1(-integral))

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        t = widen(t)
        return -self._beta(t) / jnp.tanh(0.5 * self._integral(t))

    def time(self, log_snr: ArrayLike) -> Array:
        # σ/α = 2·sinh(B/2).
        return self._time(2 * jnp.arcsinh(0.5 * jnp.exp(-0.5 * widen(log_snr))))


@dataclass(frozen=True)
class VE(DifferentiableSchedule):
    r"""The variance-exploding SDE, for images in [0, 1].

    $$
    \alpha = 1, \qquad \sigma(t) = \sigma_\min \Bigl(\frac{\sigma_\max}{\sigma_\min}\Bigr)^t
    $$

    Args:
      sigma_min: σ(0), in the unit of the data.
      sigma_max: σ(1), likewise.

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, appendix C.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _log_ratio(self) -> float:
        ratio = self.sigma_max / self.sigma_min
        return math_of(ratio).log(ratio)

    @property
    def _log_min(self) -> float:
        return math_of(self.sigma_min).log(self.sigma_min)

    def alpha(self, t: ArrayLike) -> Array:
        return jnp.ones_like(widen(t))

    def sigma(self, t: ArrayLike) -> Array:
        return self.sigma_min * jnp.exp(widen(t) * self._log_ratio)

    def log_snr(self, t: ArrayLike) -> Array:
        return -2 * (self._log_min + widen(t) * self._log_ratio)

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        return jnp.full_like(widen(t), -2 * self._log_ratio)

    def time(self, log_snr: ArrayLike) -> Array:
        return (-0.5 * widen(log_snr) - self._log_min) / self._log_ratio


@dataclass(frozen=True)
class EDM(DifferentiableSchedule):
    r"""The noise levels of EDM: equal steps in t are the levels of its sampler.

    $$
    \alpha = 1, \qquad \sigma(t) = \Bigl(\sigma_\min^{1/\rho}
      + t\, \bigl(\sigma_\max^{1/\rho} - \sigma_\min^{1/\rho}\bigr)\Bigr)^\rho
    $$

    `time` goes below 0 and above 1 for noise outside [σ_min, σ_max], so that σ(time(·)) holds
    there too.

    Args:
      sigma_min: σ(0), in the unit of the data.
      sigma_max: σ(1), likewise.
      rho: ρ; the larger, the finer the steps near the data.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, eq. 5.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    @property
    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def _root(self, t: Array) -> Array:
        low, high = self._ends
        return low + t * (high - low)

    def alpha(self, t: ArrayLike) -> Array:
        return jnp.ones_like(widen(t))

    def sigma(self, t: ArrayLike) -> Array:
        return self._root(widen(t)) ** self.rho

    def log_snr(self, t: ArrayLike) -> Array:
        return -2 * self.rho * jnp.log(self._root(widen(t)))

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        low, high = self._ends
        return -2 * self.rho * (high - low) / self._root(widen(t))

    def time(self, log_snr: ArrayLike) -> Array:
        low, high = self._ends
        return (jnp.exp(-0.5 / self.rho * widen(log_snr)) - low) / (high - low)


@dataclass(frozen=True)
class Cosine(DifferentiableSchedule):
    r"""The cosine schedule, with an angle linear in t and log-SNR kept between two bounds.

    $$
    \alpha = \cos\theta, \qquad \sigma = \sin\theta, \qquad
    \theta(t) = \theta_0 + t\, (\theta_1 - \theta_0), \qquad
    \theta_i = \arctan e^{-\lambda_i / 2}
    $$

    Bounds of ±∞ give θ = π t/2, hence clean data at 0 and pure noise at 1.

    Args:
      log_snr_max: λ_0, at t = 0.
      log_snr_min: λ_1, at t = 1.

    References:
      Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021),
      arXiv:2102.09672, without their offset.
      Hoogeboom et al., "Simple Diffusion" (2023), arXiv:2301.11093.
    """

    log_snr_max: float = 20.0
    log_snr_min: float = -20.0

    @property
    def _ends(self) -> tuple[float, float]:
        # θ at t = 0 and π/2 − θ at t = 1.
        m = math_of(self.log_snr_max, self.log_snr_min)
        return m.atan(m.exp(-self.log_snr_max / 2)), m.atan(m.exp(self.log_snr_min / 2))

    @property
    def _range(self) -> float:
        return math.pi / 2 - sum(self._ends)

    def alpha(self, t: ArrayLike) -> Array:
        # cos θ near π/2 would lose its digits: take the sine of the complement.
        return jnp.sin(self._ends[1] + (1 - widen(t)) * self._range)

    def sigma(self, t: ArrayLike) -> Array:
        return jnp.sin(self._ends[0] + widen(t) * self._range)

    def log_snr(self, t: ArrayLike) -> Array:
        return 2 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        return -2 * self._range / (self.alpha(t) * self.sigma(t))

    def time(self, log_snr: ArrayLike) -> Array:
        return (jnp.arctan(jnp.exp(-widen(log_snr) / 2)) - self._ends[0]) / self._range


@dataclass(frozen=True)
class Sigmoid(DifferentiableSchedule):
    r"""The sigmoid schedule.

    $$
    \alpha^2 = \frac{S(b) - S(a(t))}{S(b) - S(a(0))}, \qquad \sigma^2 = 1 - \alpha^2, \qquad
    a(t) = a_0 + t\, (b - a_0), \qquad S(a) = \frac{1}{1 + e^{-a/\tau}}
    $$

    Args:
      start: a_0.
      end: b, > start.
      temperature: τ > 0.

    References:
      Jabri et al., "Scalable Adaptive Computation for Iterative Generation" (2022),
      arXiv:2212.11972.
      Chen, "On the Importance of Noise Scheduling for Diffusion Models" (2023), arXiv:2301.10972.
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    @property
    def _scaled(self) -> tuple[float, float]:
        return self.start / self.temperature, self.end / self.temperature

    # S(a) − S(b) = sinh((a − b)/2τ) / (2·cosh(a/2τ)·cosh(b/2τ)): no difference is left.
    def _share(self, distance: Array, far: float, t: Array) -> Array:
        start, end = self._scaled
        here = start + t * (end - start)
        m = math_of(start, end)
        top = jnp.sinh(distance * (end - start) / 2) * m.cosh(far / 2)
        return top / (m.sinh((end - start) / 2) * jnp.cosh(here / 2))

    def alpha(self, t: ArrayLike) -> Array:
        t = widen(t)
        return jnp.sqrt(self._share(1 - t, self._scaled[0], t))

    def sigma(self, t: ArrayLike) -> Array:
        t = widen(t)
        return jnp.sqrt(self._share(t, self._scaled[1], t))

    @property
    def _half_and_offset(self) -> tuple[float, float]:
        start, end = self._scaled
        m = math_of(start, end)
        return (end - start) / 2, m.log(m.cosh(start / 2) / m.cosh(end / 2))

    def log_snr(self, t: ArrayLike) -> Array:
        t = widen(t)
        half, offset = self._half_and_offset
        return jnp.log(jnp.sinh(half * (1 - t))) - jnp.log(jnp.sinh(half * t)) + offset

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        t = widen(t)
        half, _ = self._half_and_offset
        return -half * (1 / jnp.tanh(half * (1 - t)) + 1 / jnp.tanh(half * t))

    def time(self, log_snr: ArrayLike) -> Array:
        half, offset = self._half_and_offset
        log_ratio = widen(log_snr) - offset
        excess = 2 * math_of(half).sinh(half) * jnp.exp(-jnp.logaddexp(log_ratio, -half))
        return 0.5 * jnp.log1p(excess) / half


@dataclass(frozen=True)
class LinearLogSNR(DifferentiableSchedule):
    r"""Log-SNR linear in t: where the learned schedule of VDM starts.

    $$
    \lambda(t) = \lambda_0 + t\, (\lambda_1 - \lambda_0), \qquad
    \alpha^2 = \frac{1}{1 + e^{-\lambda}}, \qquad \sigma^2 = \frac{1}{1 + e^{\lambda}}
    $$

    Args:
      log_snr_max: λ_0, at t = 0.
      log_snr_min: λ_1, at t = 1.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630.
    """

    log_snr_max: float = 13.3
    log_snr_min: float = -5.0

    def alpha(self, t: ArrayLike) -> Array:
        return jnp.exp(-0.5 * jax.nn.softplus(-self.log_snr(t)))

    def sigma(self, t: ArrayLike) -> Array:
        return jnp.exp(-0.5 * jax.nn.softplus(self.log_snr(t)))

    def log_snr(self, t: ArrayLike) -> Array:
        return self.log_snr_max + widen(t) * (self.log_snr_min - self.log_snr_max)

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        return jnp.full_like(widen(t), self.log_snr_min - self.log_snr_max)

    def time(self, log_snr: ArrayLike) -> Array:
        return (self.log_snr_max - widen(log_snr)) / (self.log_snr_max - self.log_snr_min)


@dataclass(frozen=True)
class Shifted(DifferentiableSchedule):
    r"""Another schedule with its log-SNR shifted, for larger or smaller images.

    $$
    \lambda(t) = \lambda_\mathrm{base}(t) + \mathrm{shift}
    $$

    shift = 2 log(64 / side) is "Simple Diffusion" on `Cosine`, and −2 log(s) the factor s of Stable
    Diffusion 3 on `RectifiedFlow`. α and σ are the base's at a time that is rounded: near t = 1 α
    keeps absolute accuracy only.

    Args:
      base: any schedule of this module.
      shift: added to λ, in nats.

    References:
      Hoogeboom et al., "Simple Diffusion" (2023), arXiv:2301.11093.
      Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis"
      (2024), arXiv:2403.03206, eq. 23.
    """

    base: DifferentiableSchedule
    shift: float

    def __post_init__(self) -> None:
        check_has("alpha sigma log_snr time", "schedules.Cosine()", base=self.base)

    def _base_time(self, t: ArrayLike) -> Array:
        return self.base.time(self.log_snr(t))

    def alpha(self, t: ArrayLike) -> Array:
        return self.base.alpha(self._base_time(t))

    def sigma(self, t: ArrayLike) -> Array:
        return self.base.sigma(self._base_time(t))

    def log_snr(self, t: ArrayLike) -> Array:
        return self.base.log_snr(t) + self.shift

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        return self.base.log_snr_derivative(t)

    def time(self, log_snr: ArrayLike) -> Array:
        return self.base.time(widen(log_snr) - self.shift)
