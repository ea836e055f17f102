"""Weights w(λ) of the denoising loss as functions of the log signal-to-noise ratio."""

import math

import jax
import jax.numpy as jnp

# Every weight here multiplies the squared error of the *noise* prediction, unless it says
# otherwise; `convert` gives the weight on another prediction that makes the same loss.


def simple(log_snr):
    """w = 1. Ho et al. 2020, eq. 14."""
    return jnp.ones_like(log_snr)


def vlb(schedule):
    """w(λ) = −½·dλ/dt: for t ~ U(0, 1) the loss is the diffusion term of the ELBO, in nats.

    Kingma et al. 2021, "Variational Diffusion Models". It is `likelihood` seen from the noise.
    """
    return elbo(simple, schedule)


def elbo(weight, schedule):
    """w(λ)·(−½·dλ/dt): the ELBO's terms weighted by w, whatever the schedule.

    Kingma & Gao 2023, "Understanding Diffusion Objectives as the ELBO with Simple Data
    Augmentation"; with a decreasing w still an ELBO, of noisier data.
    """
    return lambda log_snr: (
        weight(log_snr) * -0.5 * schedule.log_snr_derivative(schedule.time(log_snr))
    )


def likelihood(schedule):
    """w = ½·g(t)² on the *score*, g² = −σ²·dλ/dt the diffusion coefficient of the schedule's SDE.

    Song et al. 2021, "Maximum Likelihood Training of Score-Based Diffusion Models".
    """

    def weight(log_snr):
        t = schedule.time(log_snr)
        return -0.5 * schedule.log_snr_derivative(t) * schedule.sigma(t) ** 2

    return weight


def min_snr(gamma=5.0):
    """w = min(SNR, γ) / SNR: min(SNR, γ) on data, min(SNR, γ) / (SNR + 1) on velocity.

    Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
    """
    return lambda log_snr: jnp.exp(jnp.minimum(0.0, math.log(gamma) - log_snr))


def p2(gamma=1.0, k=1.0):
    """w = (k + SNR)^−γ. Choi et al. 2022, "Perception Prioritized Training"."""
    return lambda log_snr: jnp.exp(-gamma * jnp.logaddexp(math.log(k), log_snr))


def edm(data_std=0.5):
    """w = 1 + 1 / (s²·SNR), s = data_std: 1/σ² + 1/s² on data where α = 1, 1 on EDM's F.

    Karras et al. 2022, table 1, λ(σ) = (σ² + s²) / (σ·s)².
    """
    return lambda log_snr: 1 + jnp.exp(-log_snr) / data_std**2


def sigmoid(bias):
    """w = sigmoid(bias − λ), made for `elbo(sigmoid(bias), schedule)`; its half lies at λ = bias.

    Kingma & Gao 2023; Hoogeboom et al. 2024, "Simpler Diffusion (SiD2)".
    """
    return lambda log_snr: jax.nn.sigmoid(bias - log_snr)


def convert(weight, *, source, target, schedule=None):
    """The weight on `target` whose loss equals that of `weight` on `source`, at every λ.

    source and target have error_scale(alpha, sigma): their squared error relative to the noise's.
    α and σ at λ are the schedule's; without one α² + σ² = 1 (it matters for velocity and score).
    """

    def converted(log_snr):
        if schedule is None:
            alpha = jnp.exp(-0.5 * jax.nn.softplus(-log_snr))
            sigma = jnp.exp(-0.5 * jax.nn.softplus(log_snr))
        else:
            t = schedule.time(log_snr)
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        ratio = source.error_scale(alpha, sigma) / target.error_scale(alpha, sigma)
        return weight(log_snr) * ratio

    return converted
