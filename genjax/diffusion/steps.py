"""Step grids: the decreasing times [n + 1] of a sampler.

Read them with the module's name in front: `steps.linear`, `steps.karras`.
"""

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import InvertibleSchedule
from genjax.numerics import check_has, check_static

# Beyond this, float32 sums cannot tell the smaller of signal and noise from none.
_LOG_SNR_BOUND = 30.0
# A time above 0 at which VE and EDM, where σ(0) > 0, have every bit of σ(0).
_NEAREST = 2.0**-40


def linear(n: int, start: float = 1.0, end: float = 0.0) -> Array:
    r"""Steps of equal length: DDIM's "linear" sub-sequence.

    $$
    t_i = t_0 + (t_n - t_0)\, i / n, \qquad i = 0, \ldots, n
    $$

    Args:
      n: number of steps.
      start: t_0, the noisier end, in [0, 1].
      end: t_n, in [0, 1].

    Returns:
      Times [n + 1].

    Raises:
      TypeError: where n is traced.

    References:
      Song et al., "Denoising Diffusion Implicit Models" (2021), arXiv:2010.02502, appendix D.2.
    """
    check_static(n=n)
    return jnp.linspace(start, end, n + 1)


def quadratic(n: int, start: float = 1.0, end: float = 0.0) -> Array:
    r"""Equal steps of √t, finer towards the data: DDIM's "quadratic" sub-sequence.

    $$
    t_i = \bigl(\sqrt{t_0} + (\sqrt{t_n} - \sqrt{t_0})\, i / n\bigr)^2, \qquad i = 0, \ldots, n
    $$

    Args:
      n: number of steps.
      start: t_0, the noisier end, in [0, 1].
      end: t_n, in [0, 1].

    Returns:
      Times [n + 1].

    Raises:
      TypeError: where n is traced.

    References:
      Song et al., "Denoising Diffusion Implicit Models" (2021), arXiv:2010.02502, appendix D.2.
    """
    check_static(n=n)
    return jnp.square(jnp.linspace(start**0.5, end**0.5, n + 1))


def karras(
    n: int,
    *,
    schedule: InvertibleSchedule,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> Array:
    r"""The grid of EDM: equal steps of (σ/α)^(1/ρ), then the data.

    $$
    \sigma_i = \Bigl(\sigma_\max^{1/\rho} + \frac{i}{n - 1}
      \bigl(\sigma_\min^{1/\rho} - \sigma_\max^{1/\rho}\bigr)\Bigr)^\rho, \quad i < n,
    \qquad t_n = 0
    $$

    σ_i is the noise-to-signal ratio σ/α, mapped to times by `schedule.time`. Both ends are moved
    into the schedule's range if they lie outside.

    Args:
      n: number of steps.
      schedule: has log_snr(t) and time(log_snr), such as one of `schedules`.
      sigma_min: the lowest σ/α before the data.
      sigma_max: the highest.
      rho: ρ; the larger, the finer the steps near the data.

    Returns:
      Times [n + 1], strictly decreasing; the last but one is above 0 also where it stands for σ(0),
      as in EDM's own grid.

    Raises:
      TypeError: where n is traced, or `schedule` is a class or a name in place of an object.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, eq. 5.
    """
    check_static(n=n)
    check_has("log_snr time", "schedules.VP()", schedule=schedule)
    low, high = jnp.exp(-0.5 * schedule.log_snr(jnp.array([0.0, 1.0])))
    low, high = jnp.maximum(sigma_min, low), jnp.minimum(sigma_max, high)
    ratios = jnp.linspace(high ** (1 / rho), low ** (1 / rho), n) ** rho
    return _and_data(schedule.time(-2 * jnp.log(ratios)))


def linear_log_snr(
    n: int, *, schedule: InvertibleSchedule, start: float = 1.0, end: float = 1e-3
) -> Array:
    r"""The grid of DPM-Solver: equal steps of log-SNR, then the data.

    $$
    \lambda(t_i) = \lambda(t_0) + \frac{i}{n - 1} \bigl(\lambda(t_{n-1}) - \lambda(t_0)\bigr),
    \quad i < n, \qquad t_n = 0
    $$

    An infinite λ, as λ(1) = −∞ of a schedule that ends without signal, is taken as ±30.

    Args:
      n: number of steps.
      schedule: has log_snr(t) and time(log_snr), such as one of `schedules`.
      start: t_0, in [0, 1].
      end: t_{n−1}, in [0, 1].

    Returns:
      Times [n + 1], strictly decreasing.

    Raises:
      TypeError: where n is traced, or `schedule` is a class or a name in place of an object.

    References:
      Lu et al., "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around
      10 Steps" (2022), arXiv:2206.00927.
    """
    check_static(n=n)
    check_has("log_snr time", "schedules.VP()", schedule=schedule)
    ends = jnp.clip(schedule.log_snr(jnp.array([start, end])), -_LOG_SNR_BOUND, _LOG_SNR_BOUND)
    return _and_data(schedule.time(jnp.linspace(ends[0], ends[1], n)))


def _and_data(times: Array) -> Array:
    # Rounding in `time` may step outside.
    times = jnp.clip(times, _NEAREST, 1.0)
    # Near 1 the numbers of a dtype are too few for many steps: equal ones move apart by one each.
    kind = jnp.dtype(f"int{8 * times.dtype.itemsize}")
    place = jnp.arange(len(times), dtype=kind)
    bits = jax.lax.bitcast_convert_type(times, kind)
    apart = jax.lax.bitcast_convert_type(jax.lax.cummin(bits + place) - place, times.dtype)
    return jnp.append(apart, 0.0)
