"""Step grids: the decreasing times [n + 1] that a sampler visits."""

import jax
import jax.numpy as jnp

# Beyond this, float32 sums cannot tell the smaller of signal and noise from none.
_LOG_SNR_BOUND = 30.0


def uniform(n: int, start: float = 1.0, end: float = 0.0) -> jax.Array:
    """n steps of equal length: tᵢ = start + (end − start) i/n, i = 0..n, [n + 1].

    The "linear" sub-sequence of DDIM (Song et al. 2021, appendix D.2).
    """
    return jnp.linspace(start, end, n + 1)


def quadratic(n: int, start: float = 1.0, end: float = 0.0) -> jax.Array:
    """Equal steps of √t, finer towards the data: tᵢ = (√start + (√end − √start) i/n)², [n + 1].

    The "quadratic" sub-sequence of DDIM (Song et al. 2021, appendix D.2).
    """
    return jnp.square(jnp.linspace(start**0.5, end**0.5, n + 1))


def karras(
    n: int, *, schedule, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> jax.Array:
    """Equal steps of (σ/α)^(1/ρ) from sigma_max to sigma_min, then t = 0: [n + 1].

    σᵢ = (σmax^(1/ρ) + i/(n − 1) (σmin^(1/ρ) − σmax^(1/ρ)))^ρ for i < n, tₙ = 0 (Karras et al. 2022,
    eq. 5), where σᵢ is the noise-to-signal ratio σ/α, mapped to times by `schedule.time`. Both ends
    are moved into the schedule's range if they lie outside.
    """
    low, high = jnp.exp(-0.5 * schedule.log_snr(jnp.array([0.0, 1.0])))
    low, high = jnp.maximum(sigma_min, low), jnp.minimum(sigma_max, high)
    ratios = jnp.linspace(high ** (1 / rho), low ** (1 / rho), n) ** rho
    return _and_data(schedule.time(-2 * jnp.log(ratios)))


def log_snr(n: int, *, schedule, start: float = 1.0, end: float = 1e-3) -> jax.Array:
    """n times of equally spaced λ = log(α²/σ²) from start to end, then t = 0: [n + 1].

    The grid of DPM-Solver (Lu et al. 2022). An infinite λ, as λ(1) = −∞ of a schedule that ends
    without signal, is taken as ±30.
    """
    ends = jnp.clip(schedule.log_snr(jnp.array([start, end])), -_LOG_SNR_BOUND, _LOG_SNR_BOUND)
    return _and_data(schedule.time(jnp.linspace(ends[0], ends[1], n)))


def _and_data(times):
    # Rounding in `time` may step outside.
    return jnp.append(jnp.clip(times, 0.0, 1.0), 0.0)
