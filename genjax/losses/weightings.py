"""Weights w(λ) of the denoising loss as functions of the log signal-to-noise ratio λ = ln SNR.

Every weight here multiplies the squared error of the *noise* prediction, unless it says otherwise;
`convert` makes the weight on another prediction that gives the same loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax.numerics import math_of

# Far enough for the limit in float32, near enough for the squares of α and σ.
_FAR = 40.0


def _with_limits(value: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function of λ that is taken to its limit where it is 0·∞ at λ = ±∞."""

    def limited(log_snr: Array) -> Array:
        direct = value(log_snr)
        undefined = jnp.isinf(log_snr) & jnp.isnan(direct)
        return jnp.where(undefined, value(jnp.clip(log_snr, -_FAR, _FAR)), direct)

    return limited


def simple(log_snr: Array) -> Array:
    r"""The "simple" weight of DDPM.

    $$
    w(\lambda) = 1
    $$

    Args:
      log_snr: λ, any shape.

    Returns:
      Like λ.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 14.
    """
    return jnp.ones_like(log_snr)


def unweighted_elbo(schedule: Any) -> Callable[[Array], Array]:
    r"""The weight of the ELBO (VLB): the loss of uniform times is its diffusion term, in nats.

    $$
    w(\lambda) = -\frac12 \frac{d\lambda}{dt}
    $$

    It is `likelihood` on the noise.

    Args:
      schedule: the noise schedule, with log_snr_derivative and time.

    Returns:
      λ -> w.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630.
    """
    return weighted_elbo(simple, schedule)


def weighted_elbo(weight: Callable[[Array], Array], schedule: Any) -> Callable[[Array], Array]:
    r"""The ELBO's terms weighted by another weight, whatever the schedule.

    $$
    w(\lambda) = -\frac12 \frac{d\lambda}{dt} \, \mathrm{weight}(\lambda)
    $$

    With a weight that decreases in λ it is still an ELBO, of noisier data.

    Args:
      weight: λ -> a weight.
      schedule: the noise schedule, with log_snr_derivative and time.

    Returns:
      λ -> w.

    References:
      Kingma & Gao, "Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation"
        (2023), arXiv:2303.00848.
    """
    return _with_limits(
        lambda log_snr: weight(log_snr) * -0.5 * schedule.log_snr_derivative(schedule.time(log_snr))
    )


def likelihood(schedule: Any) -> Callable[[Array], Array]:
    r"""The likelihood weighting, on the *score*.

    $$
    w = \tfrac12 g(t)^2, \qquad g^2 = -\sigma^2 \frac{d\lambda}{dt}
    $$

    g is the diffusion coefficient of the schedule's SDE.

    Args:
      schedule: the noise schedule, with sigma, log_snr_derivative and time.

    Returns:
      λ -> w.

    References:
      Song et al., "Maximum Likelihood Training of Score-Based Diffusion Models" (2021),
        arXiv:2101.09258.
    """

    def weight(log_snr: Array) -> Array:
        t = schedule.time(log_snr)
        return -0.5 * schedule.log_snr_derivative(t) * schedule.sigma(t) ** 2

    return _with_limits(weight)


def min_snr(gamma: float = 5.0) -> Callable[[Array], Array]:
    r"""Min-SNR weighting.

    $$
    w(\lambda) = \frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR}}
    $$

    This is min(SNR, γ) on data and min(SNR, γ)/(SNR + 1) on velocity.

    Args:
      gamma: γ.

    Returns:
      λ -> w.

    References:
      Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy" (2023),
        arXiv:2303.09556.
    """
    return lambda log_snr: jnp.exp(jnp.minimum(0.0, math_of(gamma).log(gamma) - log_snr))


def p2(gamma: float = 1.0, k: float = 1.0) -> Callable[[Array], Array]:
    r"""P2 weighting.

    $$
    w(\lambda) = (k + \mathrm{SNR})^{-\gamma}
    $$

    Args:
      gamma: γ.
      k: positive.

    Returns:
      λ -> w.

    References:
      Choi et al., "Perception Prioritized Training of Diffusion Models" (2022), arXiv:2204.00227.
    """
    return lambda log_snr: jnp.exp(-gamma * jnp.logaddexp(math_of(k).log(k), log_snr))


def edm(data_std: float = 0.5) -> Callable[[Array], Array]:
    r"""The weight of EDM.

    $$
    w(\lambda) = 1 + \frac{1}{s^2 \, \mathrm{SNR}}
    $$

    This is λ(σ) = (σ² + s²)/(σ·s)² on data where α = 1, and 1 on EDM's network output F.

    Args:
      data_std: s, the standard deviation of the data.

    Returns:
      λ -> w.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
        arXiv:2206.00364, table 1.
    """
    return lambda log_snr: 1 + jnp.exp(-log_snr) / data_std**2


def sigmoid(bias: float) -> Callable[[Array], Array]:
    r"""Sigmoid weighting, made for `weighted_elbo(sigmoid(bias), schedule)`.

    $$
    w(\lambda) = \mathrm{sigmoid}(b - \lambda)
    $$

    Args:
      bias: b, the λ at which the weight is one half.

    Returns:
      λ -> w.

    References:
      Kingma & Gao, "Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation"
        (2023), arXiv:2303.00848.
      Hoogeboom et al., "Simpler Diffusion (SiD2)" (2024), arXiv:2410.19324.
    """
    return lambda log_snr: jax.nn.sigmoid(bias - log_snr)


def velocity_of_data(floor: float = 0.05) -> Callable[[Array], Array]:
    r"""The weight on *data* that makes it the loss of rectified flow's velocity.

    $$
    w(\lambda) = \frac{1}{\max(t, \mathrm{floor})^2}, \qquad
    t = \mathrm{sigmoid}(-\lambda / 2)
    $$

    A network that predicts the data predicts the velocity u = (z − x̂)/t with it; the floor bounds
    the weight of images with little noise.

    Args:
      floor: the least t by which to divide, positive.

    Returns:
      λ -> w.

    References:
      Li & He, "Back to Basics: Let Denoising Generative Models Denoise" (2025), arXiv:2511.13720,
        its code.
    """
    return lambda log_snr: 1 / jnp.maximum(jax.nn.sigmoid(-log_snr / 2), floor) ** 2


def convert(
    weight: Callable[[Array], Array], *, source: Any, target: Any, schedule: Any = None
) -> Callable[[Array], Array]:
    r"""The weight on one prediction whose loss equals that of a weight on another, at every λ.

    $$
    w_{\mathrm{target}}(\lambda) = w_{\mathrm{source}}(\lambda) \,
    \frac{\mathrm{scale}_{\mathrm{source}}(\alpha, \sigma)}
    {\mathrm{scale}_{\mathrm{target}}(\alpha, \sigma)}
    $$

    Args:
      weight: λ -> a weight on `source`.
      source: a prediction with error_scale(alpha, sigma), its squared error relative to that of the
        noise: genjax.diffusion.predictions.
      target: the prediction to weigh.
      schedule: the noise schedule, for α and σ at λ; None for α² + σ² = 1. It matters for velocity
        and score.

    Returns:
      λ -> w on `target`; at λ = ±∞ the limit, where there is one.

    References:
      Kingma & Gao, "Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation"
        (2023), arXiv:2303.00848.
    """

    def scales(log_snr: Array) -> tuple[Array, Array]:
        alpha = jnp.exp(-0.5 * jax.nn.softplus(-log_snr))
        sigma = jnp.exp(-0.5 * jax.nn.softplus(log_snr))
        return alpha, sigma

    def converted(log_snr: Array) -> Array:
        alpha, sigma = scales(log_snr)
        if schedule is not None:
            t = schedule.time(log_snr)
            near_alpha, near_sigma = schedule.alpha(t), schedule.sigma(t)
            # A time so near 0 or 1 is rounded: of the schedule take α² + σ² alone.
            far, radius = jnp.abs(log_snr) >= _FAR, jnp.hypot(near_alpha, near_sigma)
            alpha = jnp.where(far, radius * alpha, near_alpha)
            sigma = jnp.where(far, radius * sigma, near_sigma)
        ratio = source.error_scale(alpha, sigma) / target.error_scale(alpha, sigma)
        return weight(log_snr) * ratio

    return _with_limits(converted)
