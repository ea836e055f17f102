r"""Whether Markov chains have converged, and how many independent draws they are worth.

References:
  Vehtari, Gelman, Simpson, Carpenter & Bürkner, "Rank-Normalization, Folding, and Localization: An
  Improved R̂ for Assessing Convergence of MCMC" (2021), arXiv:1903.08008.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax


def split_r_hat(draws: Array) -> Array:
    r"""The potential scale reduction of chains that are cut into halves.

    $$
    \hat R = \sqrt{\frac{\frac{n - 1}{n} W + \frac{1}{n} B}{W}}
    $$

    of 2m halves of n draws: W is the mean of their variances, B is n times the variance of their
    means. Above 1.01 longer chains would say something else; above 1.1 they disagree, as chains
    in different modes do, and chains that have not arrived.

    Args:
      draws: [chains, draws, ...], at least 4 draws; of an odd number the middle one is unused.

    Returns:
      [...]. Where no half has any spread: 1 if they are equal, else infinity.

    Raises:
      ValueError: where there are fewer than 4 draws.

    References:
      Gelman et al., "Bayesian Data Analysis" (3rd edition, 2013), section 11.4.
      arXiv:1903.08008, eqs. 1 to 4.
    """
    halves = _halves(draws)
    n = halves.shape[1]
    within = jnp.var(halves, axis=1, ddof=1).mean(0)
    between = n * jnp.var(halves.mean(1), axis=0, ddof=1)
    total = (n - 1) / n * within + between / n
    still = jnp.where(total > 0, jnp.inf, 1.0)
    return jnp.where(within > 0, jnp.sqrt(total / jnp.where(within > 0, within, 1)), still)


def effective_sample_size(draws: Array) -> Array:
    r"""How many independent draws would estimate the mean as well as these.

    $$
    \frac{m n}{1 + 2 \sum_{t=1}^{T} \hat\rho_t}, \qquad
    \hat\rho_t = 1 - \frac{W - \frac{1}{m} \sum_j s_j^2 \hat\rho_{t,j}}{\widehat{\mathrm{var}}^+}
    $$

    of m halves of chains with n draws. T ends Geyer's initial sequence of pairs of correlations,
    which is positive and made to fall. It is small too where the chains disagree. Chains that
    alternate around the mean are worth more than their draws, at most m n log₁₀(m n).

    Args:
      draws: [chains, draws, ...], at least 4 draws; of an odd number the middle one is unused.

    Returns:
      [...]. Where nothing has any spread, the number of draws.

    Raises:
      ValueError: where there are fewer than 4 draws.

    References:
      Geyer, "Practical Markov Chain Monte Carlo" (Statistical Science 7, 1992), section 3.3.
      arXiv:1903.08008, eqs. 10 to 12.
    """
    halves = _halves(draws)
    m, n = halves.shape[:2]
    centred = halves - halves.mean(1, keepdims=True)
    # Padded to twice its length, a periodic correlation is that of the draws.
    spectrum = jnp.abs(jnp.fft.rfft(centred, 2 * n, axis=1)) ** 2
    covariance = jnp.fft.irfft(spectrum, 2 * n, axis=1)[:, :n].mean(0) / n
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + jnp.var(halves.mean(1), axis=0, ddof=1)
    moving = total > 0
    correlation = 1 - (within[None] - covariance) / jnp.where(moving, total, 1)[None]
    correlation = jnp.where(
        jnp.arange(n).reshape(-1, *[1] * (halves.ndim - 2)) == 0, 1, correlation
    )
    pairs = correlation[0 : n // 2 * 2 : 2] + correlation[1::2]
    positive = lax.cumprod((pairs > 0).astype(pairs.dtype), axis=0)
    time = 2 * (lax.cummin(pairs, axis=0) * positive).sum(0) - 1
    size = m * n
    return jnp.where(moving, size / jnp.maximum(time, 1 / jnp.log10(size)), size)


def _halves(draws: Array) -> Array:
    n = draws.shape[1]
    if n < 4:
        raise ValueError(f"chains need at least 4 draws to be compared, not {n}")
    half = n // 2
    return jnp.concatenate([draws[:, :half], draws[:, n - half :]])


def diagnose(draws: Array) -> tuple[Array, Array]:
    """The worst R̂ and the fewest effective samples of any number in a latent, per example.

    Args:
      draws: [B, chains, draws, *latent].

    Returns:
      R̂ [B], the greatest, and effective samples [B], the fewest.

    Raises:
      ValueError: where there are fewer than 4 draws.
    """
    flat = draws.reshape(*draws.shape[:3], -1)
    r_hat = jax.vmap(split_r_hat)(flat).max(-1)
    return r_hat, jax.vmap(effective_sample_size)(flat).min(-1)
