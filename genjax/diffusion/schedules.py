"""Noise schedules: z_t = α(t)·x + σ(t)·ε with t = 0 at the data and t = 1 at the noise."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp


def _float(t):
    t = jnp.asarray(t)
    return t.astype(jnp.promote_types(t.dtype, jnp.float32))


class Schedule:
    """The five functions of every schedule; arrays of any shape in, the same shape out.

    They are written so that float32 keeps its relative accuracy down to t = 0 and up to t = 1,
    where log_snr is ±∞ for the schedules that reach clean data or pure noise.
    """

    def alpha(self, t):
        """α(t), the scale of the data."""
        raise NotImplementedError

    def sigma(self, t):
        """σ(t), the standard deviation of the noise."""
        raise NotImplementedError

    def log_snr(self, t):
        """λ(t) = log(α(t)² / σ(t)²), strictly decreasing in t."""
        raise NotImplementedError

    def log_snr_derivative(self, t):
        """dλ/dt, negative."""
        raise NotImplementedError

    def time(self, log_snr):
        """The inverse of log_snr: the t at which λ(t) = log_snr."""
        raise NotImplementedError


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """α = 1 − t, σ = t: straight lines from data to noise.

    Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2022, "Flow Matching".
    """

    def alpha(self, t):
        return 1 - _float(t)

    def sigma(self, t):
        return _float(t)

    def log_snr(self, t):
        t = _float(t)
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def log_snr_derivative(self, t):
        t = _float(t)
        return -2 / (t * (1 - t))

    def time(self, log_snr):
        return jax.nn.sigmoid(-_float(log_snr) / 2)


@dataclass(frozen=True)
class VP(Schedule):
    """α = exp(−B/2), σ² = 1 − exp(−B), B(t) = β_min·t + (β_max − β_min)·t²/2: a linear β(t).

    Song et al. 2020, "Score-Based Generative Modeling through SDEs"; the limit of
    `DiscreteLinear` for many steps.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _integral(self, t):
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def _beta(self, t):
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _time(self, integral):
        # The form of the quadratic's root that neither subtracts nor fails at B = 0 and B = ∞.
        rate = self.beta_min / integral
        slope = self.beta_max - self.beta_min
        return 2 / (rate + jnp.sqrt(rate**2 + 2 * slope / integral))

    def alpha(self, t):
        return jnp.exp(-0.5 * self._integral(_float(t)))

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(-self._integral(_float(t))))

    def log_snr(self, t):
        integral = self._integral(_float(t))
        return -integral - jnp.log(-jnp.expm1(-integral))

    def log_snr_derivative(self, t):
        t = _float(t)
        return self._beta(t) / jnp.expm1(-self._integral(t))

    def time(self, log_snr):
        return self._time(jax.nn.softplus(-_float(log_snr)))


@dataclass(frozen=True)
class SubVP(VP):
    """α = exp(−B/2), σ = 1 − exp(−B), with the B(t) of `VP`: less variance than 1 in between.

    Song et al. 2020, "Score-Based Generative Modeling through SDEs", the sub-VP SDE.
    """

    def sigma(self, t):
        return -jnp.expm1(-self._integral(_float(t)))

    def log_snr(self, t):
        integral = self._integral(_float(t))
        return -integral - 2 * jnp.log(-jnp.expm1(-integral))

    def log_snr_derivative(self, t):
        t = _float(t)
        return -self._beta(t) / jnp.tanh(0.5 * self._integral(t))

    def time(self, log_snr):
        # σ/α = 2·sinh(B/2).
        return self._time(2 * jnp.arcsinh(0.5 * jnp.exp(-0.5 * _float(log_snr))))


@dataclass(frozen=True)
class VE(Schedule):
    """α = 1, σ(t) = σ_min·(σ_max / σ_min)^t.

    Song et al. 2020, "Score-Based Generative Modeling through SDEs"; images in [0, 1].
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _log_ratio(self):
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t):
        return jnp.ones_like(_float(t))

    def sigma(self, t):
        return self.sigma_min * jnp.exp(_float(t) * self._log_ratio)

    def log_snr(self, t):
        return -2 * (math.log(self.sigma_min) + _float(t) * self._log_ratio)

    def log_snr_derivative(self, t):
        return jnp.full_like(_float(t), -2 * self._log_ratio)

    def time(self, log_snr):
        return (-0.5 * _float(log_snr) - math.log(self.sigma_min)) / self._log_ratio


@dataclass(frozen=True)
class EDM(Schedule):
    """α = 1, σ(t) = (σ_min^(1/ρ) + t·(σ_max^(1/ρ) − σ_min^(1/ρ)))^ρ.

    Equal steps in t are the noise levels of Karras et al. 2022, eq. 5. `time` goes below 0 and
    above 1 for noise outside [σ_min, σ_max], so that σ(time(·)) holds there too.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    @property
    def _ends(self):
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def _root(self, t):
        low, high = self._ends
        return low + t * (high - low)

    def alpha(self, t):
        return jnp.ones_like(_float(t))

    def sigma(self, t):
        return self._root(_float(t)) ** self.rho

    def log_snr(self, t):
        return -2 * self.rho * jnp.log(self._root(_float(t)))

    def log_snr_derivative(self, t):
        low, high = self._ends
        return -2 * self.rho * (high - low) / self._root(_float(t))

    def time(self, log_snr):
        low, high = self._ends
        return (jnp.exp(-0.5 / self.rho * _float(log_snr)) - low) / (high - low)


@dataclass(frozen=True)
class Cosine(Schedule):
    """α = cos θ, σ = sin θ, with θ linear in t and log_snr kept between its two bounds.

    Nichol & Dhariwal 2021 without their offset, as in Hoogeboom et al. 2023 ("Simple
    diffusion"). Bounds of ±inf give θ = π·t/2, hence clean data at 0 and pure noise at 1.
    """

    log_snr_max: float = 20.0
    log_snr_min: float = -20.0

    @property
    def _ends(self):
        # θ at t = 0 and π/2 − θ at t = 1.
        return math.atan(math.exp(-self.log_snr_max / 2)), math.atan(math.exp(self.log_snr_min / 2))

    @property
    def _range(self):
        return math.pi / 2 - sum(self._ends)

    def alpha(self, t):
        # cos θ near π/2 would lose its digits: take the sine of the complement.
        return jnp.sin(self._ends[1] + (1 - _float(t)) * self._range)

    def sigma(self, t):
        return jnp.sin(self._ends[0] + _float(t) * self._range)

    def log_snr(self, t):
        return 2 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    def log_snr_derivative(self, t):
        return -2 * self._range / (self.alpha(t) * self.sigma(t))

    def time(self, log_snr):
        return (jnp.arctan(jnp.exp(-_float(log_snr) / 2)) - self._ends[0]) / self._range


@dataclass(frozen=True)
class Sigmoid(Schedule):
    """α² = (S(end) − S(a)) / (S(end) − S(start)), a = start + t·(end − start), S(a) = sigmoid(a/τ).

    σ² = 1 − α². Jabri et al. 2022; Chen 2023, "On the Importance of Noise Scheduling".
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    @property
    def _scaled(self):
        return self.start / self.temperature, self.end / self.temperature

    # S(a) − S(b) = sinh((a − b)/2τ) / (2·cosh(a/2τ)·cosh(b/2τ)): no difference is left.
    def _share(self, distance, far, t):
        start, end = self._scaled
        here = start + t * (end - start)
        top = jnp.sinh(distance * (end - start) / 2) * math.cosh(far / 2)
        return top / (math.sinh((end - start) / 2) * jnp.cosh(here / 2))

    def alpha(self, t):
        t = _float(t)
        return jnp.sqrt(self._share(1 - t, self._scaled[0], t))

    def sigma(self, t):
        t = _float(t)
        return jnp.sqrt(self._share(t, self._scaled[1], t))

    @property
    def _half_and_offset(self):
        start, end = self._scaled
        return (end - start) / 2, math.log(math.cosh(start / 2) / math.cosh(end / 2))

    def log_snr(self, t):
        t = _float(t)
        half, offset = self._half_and_offset
        return jnp.log(jnp.sinh(half * (1 - t))) - jnp.log(jnp.sinh(half * t)) + offset

    def log_snr_derivative(self, t):
        t = _float(t)
        half, _ = self._half_and_offset
        return -half * (1 / jnp.tanh(half * (1 - t)) + 1 / jnp.tanh(half * t))

    def time(self, log_snr):
        half, offset = self._half_and_offset
        log_ratio = _float(log_snr) - offset
        excess = 2 * math.sinh(half) * jnp.exp(-jnp.logaddexp(log_ratio, -half))
        return 0.5 * jnp.log1p(excess) / half


@dataclass(frozen=True)
class LinearLogSNR(Schedule):
    """λ linear in t from log_snr_max to log_snr_min, α² = sigmoid(λ), σ² = sigmoid(−λ).

    Kingma et al. 2021, "Variational Diffusion Models": where their learned schedule starts.
    """

    log_snr_max: float = 13.3
    log_snr_min: float = -5.0

    def alpha(self, t):
        return jnp.exp(-0.5 * jax.nn.softplus(-self.log_snr(t)))

    def sigma(self, t):
        return jnp.exp(-0.5 * jax.nn.softplus(self.log_snr(t)))

    def log_snr(self, t):
        return self.log_snr_max + _float(t) * (self.log_snr_min - self.log_snr_max)

    def log_snr_derivative(self, t):
        return jnp.full_like(_float(t), self.log_snr_min - self.log_snr_max)

    def time(self, log_snr):
        return (self.log_snr_max - _float(log_snr)) / (self.log_snr_max - self.log_snr_min)


@dataclass(frozen=True)
class Shifted(Schedule):
    """`base` in another time: λ(t) = λ_base(t) + shift, for larger or smaller images.

    shift = 2·log(64 / side) is Hoogeboom et al. 2023 ("Simple diffusion") on `Cosine`, and
    −2·log(s) the factor s of Esser et al. 2024 (Stable Diffusion 3) on `RectifiedFlow`. α and σ
    are the base's at a time that is rounded: near t = 1 α keeps absolute accuracy only.
    """

    base: Schedule
    shift: float

    def _base_time(self, t):
        return self.base.time(self.log_snr(t))

    def alpha(self, t):
        return self.base.alpha(self._base_time(t))

    def sigma(self, t):
        return self.base.sigma(self._base_time(t))

    def log_snr(self, t):
        return self.base.log_snr(t) + self.shift

    def log_snr_derivative(self, t):
        return self.base.log_snr_derivative(t)

    def time(self, log_snr):
        return self.base.time(_float(log_snr) - self.shift)


class _Discrete(Schedule):
    """ᾱ_i = Π_{j ≤ i} (1 − β_j) at t = i/steps, α = √ᾱ, σ = √(1 − ᾱ); α linear in between."""

    if TYPE_CHECKING:

        @property
        def betas(self) -> tuple[float, ...]: ...

    @cached_property
    def _table(self):
        # In Python's float64; plain floats, because an array made under jit must not be kept.
        steps = (-0.5 * math.log1p(-b) if b < 1 else math.inf for b in self.betas)
        nodes = [0.0, *accumulate(steps)]
        return tuple(math.exp(-n) for n in nodes), tuple(-math.expm1(-n) for n in nodes)

    @cached_property
    def _log_nsr(self):
        # At the inner steps only: the first and the last may be infinite.
        kept, lost = self._table
        inner = (
            math.log(d) + math.log1p(a) - 2 * math.log(a)
            for a, d in zip(kept[1:-1], lost[1:-1], strict=True)
        )
        return tuple(inner)

    def _segment(self, t):
        """α at both ends of t's segment, 1 − α at both ends, and the place of t between them."""
        place = _float(t) * len(self.betas)
        index = jnp.clip(jnp.floor(place), 0, len(self.betas) - 1).astype(jnp.int32)
        return *self._ends(index, place.dtype), place - index

    def _ends(self, index, dtype):
        kept, lost = (jnp.asarray(column, dtype) for column in self._table)
        return kept[index], kept[index + 1], lost[index], lost[index + 1]

    def _alpha_and_lost(self, t):
        kept, next_kept, lost, next_lost, place = self._segment(t)
        return kept + place * (next_kept - kept), lost + place * (next_lost - lost)

    def alpha(self, t):
        return self._alpha_and_lost(t)[0]

    def sigma(self, t):
        alpha, lost = self._alpha_and_lost(t)
        return jnp.sqrt(lost * (1 + alpha))

    def log_snr(self, t):
        alpha, lost = self._alpha_and_lost(t)
        return 2 * jnp.log(alpha) - jnp.log(lost) - jnp.log1p(alpha)

    def log_snr_derivative(self, t):
        """dλ/dt inside a segment; at t = i/steps, of the segment that begins there."""
        _, _, lost, next_lost, _ = self._segment(t)
        alpha, here = self._alpha_and_lost(t)
        return -2 * len(self.betas) * (next_lost - lost) / (alpha * here * (1 + alpha))

    def time(self, log_snr):
        log_snr = _float(log_snr)
        alpha = jnp.exp(-0.5 * jax.nn.softplus(-log_snr))
        lost = jnp.exp(-jax.nn.softplus(log_snr)) / (1 + alpha)
        index = jnp.searchsorted(jnp.asarray(self._log_nsr, log_snr.dtype), -log_snr, side="right")
        kept_0, kept_1, lost_0, lost_1 = self._ends(index, log_snr.dtype)
        # Whichever of α and 1 − α is small carries the digits.
        place = jnp.where(
            lost < 0.5, (lost - lost_0) / (lost_1 - lost_0), (kept_0 - alpha) / (kept_0 - kept_1)
        )
        return (index + jnp.clip(place, 0, 1)) / len(self.betas)


@dataclass(frozen=True)
class Discrete(_Discrete):
    """Any forward process given by its β_1 … β_T: ᾱ_i = Π_{j ≤ i} (1 − β_j) at t = i/T.

    α = √ᾱ and σ = √(1 − ᾱ), α linear between the steps. Ho et al. 2020, eq. 4.
    """

    betas: tuple[float, ...]


@dataclass(frozen=True)
class DiscreteLinear(_Discrete):
    """β_i linear from beta_start to beta_end: ᾱ_i = Π_{j ≤ i} (1 − β_j) at t = i/steps.

    α = √ᾱ and σ = √(1 − ᾱ), α linear between the steps. Ho et al. 2020, section 4.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    @property
    def betas(self):
        """β_1 … β_T as floats."""
        width = (self.beta_end - self.beta_start) / max(self.steps - 1, 1)
        return tuple(self.beta_start + i * width for i in range(self.steps))


@dataclass(frozen=True)
class DiscreteCosine(_Discrete):
    """β_i = min(1 − f(i/T) / f((i−1)/T), max_beta), f(u) = cos²((u + s)/(1 + s)·π/2).

    ᾱ_i = Π_{j ≤ i} (1 − β_j) at t = i/steps, α = √ᾱ, σ = √(1 − ᾱ), α linear between the steps.
    Nichol & Dhariwal 2021, eq. 17.
    """

    steps: int = 1000
    s: float = 0.008
    max_beta: float = 0.999

    @property
    def betas(self):
        """β_1 … β_T as floats."""
        angles = ((i / self.steps + self.s) / (1 + self.s) * math.pi / 2 for i in range(self.steps))
        kept = [math.cos(angle) ** 2 for angle in angles] + [0.0]
        return tuple(min(1 - after / before, self.max_beta) for before, after in pairwise(kept))


def zero_terminal_snr(schedule: Discrete | DiscreteLinear | DiscreteCosine) -> Discrete:
    """The same steps with √ᾱ shifted and scaled so that √ᾱ_T = 0 while √ᾱ_1 stays.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.
    A noise prediction says nothing at SNR 0: train velocity (or data) with it.
    """
    _, first, *_, last = schedule._table[0]
    rescaled = [1.0, *((a - last) * first / (first - last) for a in schedule._table[0][1:])]
    return Discrete(tuple(1 - (after / before) ** 2 for before, after in pairwise(rescaled)))
