"""The evidence lower bound of a variational autoencoder by parts, and what takes the KL's place."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics, over_batch


class Elbo(NamedTuple):
    """The two parts of −ELBO.

    Attributes:
      nll: −log p(x|z), [B], nats per image.
      kl: KL(q(z|x) ‖ p(z)), [B], nats per image.
    """

    nll: Array
    kl: Array

    def loss(self, beta: float | Array = 1.0) -> Array:
        r"""The weighted sum of the parts: −ELBO at β = 1, else the β-VAE's loss.

        $$
        \mathcal{L} = \mathrm{nll} + \beta \, \mathrm{kl}
        $$

        Args:
          beta: weight of the KL, a scalar or [B].

        Returns:
          [B], nats per image.

        References:
          Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
          Framework" (ICLR 2017), eq. 4.
        """
        return self.nll + beta * self.kl


def elbo(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable[[Array], Any],
    x: Array,
    key: Array,
    *,
    nll: Callable[[Any, Array], Array],
    kl: Callable[[Array, Array], Array] | None = None,
) -> Elbo:
    r"""The two parts of −ELBO, estimated with one z per image.

    $$
    -\mathrm{ELBO} = \mathbb{E}_{q(z|x)}[-\log p(x|z)]
      + \mathrm{KL}(q(z|x) \,\|\, \mathcal{N}(0, I))
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      kl: (mean, log_var) -> [B], the place for free bits or another prior; `gaussian_kl` unless
        given.

    Returns:
      The parts, each [B], nats per image.

    Raises:
      ValueError: where the shapes of mean and log_var differ, there is another number of keys, or a
        part is not [B].

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, eq. 3.
    """
    mean, log_var = encode(x)
    z = reparameterize(mean, log_var, key)
    return _parts(nll(decode(z), x), (kl or gaussian_kl)(mean, log_var), x)


def reparameterize(mean: Array, log_var: Array, key: Array) -> Array:
    r"""A sample of N(μ, σ²) that is differentiable by mean and variance.

    $$
    z = \mu + e^{\frac{1}{2} \log \sigma^2} \, \epsilon, \qquad \epsilon \sim \mathcal{N}(0, I)
    $$

    Args:
      mean: μ, [B, ...].
      log_var: log σ², like `mean`.
      key: one key, or one per example [B].

    Returns:
      z, in the shape and dtype of `mean`.

    Raises:
      ValueError: where `mean` is of integers, the shapes of `mean` and `log_var` differ, or there
        is another number of keys.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, section 2.4.
    """
    numerics.check_floats(mean=mean)
    numerics.check_same_shape(mean=mean, log_var=log_var)
    noise = keys.normal(key, mean.shape)
    std = numerics.exp_with_tangent(0.5 * numerics.widen(log_var))
    return (numerics.widen(mean) + std * noise).astype(mean.dtype)


def gaussian_kl(mean: Array, log_var: Array, prior: tuple[Array, Array] | None = None) -> Array:
    r"""The KL divergence of two Gaussians with diagonal covariances.

    Where the logarithm of a ratio of variances passes 60, the ratio continues as its tangent, to
    stay finite in float32.

    $$
    \mathrm{KL}(\mathcal{N}(\mu, \sigma^2) \,\|\, \mathcal{N}(m, s^2)) = \frac{1}{2} \sum_j
      \frac{\sigma_j^2}{s_j^2} - 1 - \log \frac{\sigma_j^2}{s_j^2}
      + \frac{(\mu_j - m_j)^2}{s_j^2}
    $$

    Args:
      mean: μ, [B, ...].
      log_var: log σ², like `mean`.
      prior: (m, log s²), each like `mean`; None for N(0, I).

    Returns:
      [B], nats per example.

    Raises:
      ValueError: where the shapes differ.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, appendix B.
    """
    return numerics.sum_per_example(gaussian_kl_per_dimension(mean, log_var, prior))


def gaussian_kl_per_dimension(
    mean: Array, log_var: Array, prior: tuple[Array, Array] | None = None
) -> Array:
    r"""The terms of `gaussian_kl` before their sum.

    $$
    \mathrm{KL}_j = \frac{1}{2} \left( \frac{\sigma_j^2}{s_j^2} - 1
      - \log \frac{\sigma_j^2}{s_j^2} + \frac{(\mu_j - m_j)^2}{s_j^2} \right)
    $$

    Args:
      mean: μ, [B, ...].
      log_var: log σ², like `mean`.
      prior: (m, log s²), each like `mean`; None for N(0, I).

    Returns:
      Like `mean`, nats per latent.

    Raises:
      ValueError: where the shapes differ.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, appendix B.
    """
    numerics.check_same_shape(mean=mean, log_var=log_var)
    mean, log_var = numerics.widen(mean), numerics.widen(log_var)
    if prior is not None:
        prior_mean, prior_log_var = prior
        numerics.check_same_shape(mean=mean, prior_mean=prior_mean)
        numerics.check_same_shape(mean=mean, prior_log_var=prior_log_var)
        prior_log_var = numerics.widen(prior_log_var)
        log_var = log_var - prior_log_var
        distance = mean - numerics.widen(prior_mean)
        mean = distance * numerics.exp_with_tangent(-0.5 * prior_log_var)
    # expm1(a) − a, not exp(a) − 1 − a: near the prior the difference is all there is.
    below = jnp.expm1(jnp.minimum(log_var, 60))
    above = math.exp(60) * jnp.maximum(log_var - 60, 0)
    return 0.5 * (below + above - log_var + mean**2)


def free_bits(kl: Array, nats: float | Array) -> Array:
    r"""A KL that costs at least λ nats per latent, for each image by itself.

    Where an image's latent is under λ, it has no gradient. Kingma et al. average over the batch
    before the maximum: that is `free_bits_of_batch`.

    $$
    \sum_j \max(\lambda, \mathrm{KL}_j)
    $$

    Args:
      kl: [B, ...], nats, from `gaussian_kl_per_dimension`; summed over a group's latents first
        where λ is per group.
      nats: λ, nats per latent or group.

    Returns:
      [B], nats per image.

    References:
      Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow" (2016),
      arXiv:1606.04934, appendix C.8.
    """
    return numerics.sum_per_example(jnp.maximum(numerics.widen(kl), nats))


def free_bits_of_batch(
    kl: Array, nats: float | Array, *, axis_name: str | None = over_batch.DATA_AXIS
) -> Array:
    r"""A KL that costs at least λ nats per latent on average over the batch.

    Image b's value is Σ_j of KL_bj where the batch mean of latent or group j passes λ, and of λ
    where not, so that it depends on the global batch and j has a gradient for all images or none.
    The mean of the values over the batch is

    $$
    \sum_j \max\left(\lambda, \frac{1}{B} \sum_b \mathrm{KL}_{bj}\right)
    $$

    Args:
      kl: [B, ...], nats, as in `free_bits`.
      nats: λ, nats per latent or group.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      [B], nats per image.

    References:
      Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow" (2016),
      arXiv:1606.04934, appendix C.8.
    """
    kl = numerics.widen(kl)
    mean = over_batch.mean(jnp.mean(kl, axis=0, keepdims=True), axis_name)
    return numerics.sum_per_example(jnp.where(mean > nats, kl, nats))


class FactorVAE(NamedTuple):
    """The parts of FactorVAE's loss.

    Attributes:
      nll: −log p(x|z), [B], nats per image.
      kl: KL(q(z|x) ‖ p(z)), [B], nats per image.
      total_correlation: the critic's estimate of it, [B], nats per image.
      z: the codes, [B, d], which the critic learns from.
    """

    nll: Array
    kl: Array
    total_correlation: Array
    z: Array

    def loss(self, gamma: float | Array) -> Array:
        r"""The weighted sum of the parts.

        $$
        \mathcal{L} = \mathrm{nll} + \mathrm{kl} + \gamma \, \mathrm{total\_correlation}
        $$

        Args:
          gamma: weight of the total correlation; 10 to 40 in the paper.

        Returns:
          [B], nats per image.

        References:
          Kim & Mnih, "Disentangling by Factorising" (2018), arXiv:1802.05983, eq. 2.
        """
        return self.nll + self.kl + gamma * self.total_correlation


def factor_vae(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable[[Array], Any],
    critic: Callable[[Array], Array],
    x: Array,
    key: Array,
    *,
    nll: Callable[[Any, Array], Array],
) -> FactorVAE:
    r"""The parts of −ELBO, and the total correlation of the codes by a critic's density ratio.

    The critic is a player of its own. It minimises
    `gan.minimax.discriminator(critic(z), critic(permute_dimensions(other, key)))`, where z are the
    codes of a batch and `other` those of another; its best logit is the log of the density ratio of
    codes and codes of independent dimensions, whose mean is the total correlation.

    $$
    \mathrm{KL}\Bigl( q(z) \,\Big\|\, \prod_j q(z_j) \Bigr)
      = \mathbb{E}_{q(z)} \Bigl[ \log \frac{q(z)}{\prod_j q(z_j)} \Bigr]
      \approx \mathbb{E}_{q(z)} [ D(z) ]
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), [B, d] each.
      decode: z [B, d] -> the parameters that `nll` takes.
      critic: D, z [B, d] -> logits [B], which are high for codes; no gradient for its parameters is
        due here.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.

    Returns:
      The parts.

    Raises:
      ValueError: where the shapes of mean and log_var differ, there is another number of keys, or a
        part or the critic's output is not [B].

    References:
      Kim & Mnih, "Disentangling by Factorising" (2018), arXiv:1802.05983, eq. 2 and 3.
    """
    mean, log_var = encode(x)
    z = reparameterize(mean, log_var, key)
    ratio = critic(z)
    if ratio.shape != z.shape[:1]:
        raise ValueError(f"the critic must give one logit per code, got {ratio.shape}")
    parts = _parts(nll(decode(z), x), gaussian_kl(mean, log_var), x)
    return FactorVAE(*parts, ratio, z)


def permute_dimensions(
    z: Array, key: Array, *, axis_name: str | None = over_batch.DATA_AXIS
) -> Array:
    r"""Codes whose dimensions are independent: each is permuted over the batch by itself.

    $$
    z'_{ij} = z_{\pi_j(i)\, j}, \qquad \pi_j \text{ a random permutation of the batch}
    $$

    Args:
      z: codes, [B, d].
      key: one key, or one per example [B].
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      Like z: this device's rows of the permuted global batch.

    Raises:
      ValueError: where z is not [B, d], or there is another number of keys.

    References:
      Kim & Mnih, "Disentangling by Factorising" (2018), arXiv:1802.05983, algorithm 1.
    """
    if z.ndim != 2:
        raise ValueError(f"codes must be [B, d], got {z.shape}: flatten them")
    # Sorted by uniform numbers that belong to the examples, not to the devices.
    places = over_batch.gather(keys.uniform(key, z.shape), axis_name)
    permuted = jnp.take_along_axis(over_batch.gather(z, axis_name), places.argsort(0), axis=0)
    return over_batch.own_rows(permuted, len(z), axis_name)


def vamp_elbo(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable[[Array], Any],
    inputs: Array,
    x: Array,
    key: Array,
    *,
    nll: Callable[[Any, Array], Array],
) -> Elbo:
    r"""The two parts of −ELBO under the mixture of the posteriors of K pseudo-inputs.

    The KL is estimated with the one z per image that is decoded, so that a value may be below 0.

    $$
    \mathrm{kl} = \log q(z|x) - \log p(z), \qquad
    p(z) = \frac{1}{K} \sum_{k=1}^{K} q(z|u_k)
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, d].
      decode: z [B, d] -> the parameters that `nll` takes.
      inputs: u, pseudo-inputs, parameters to learn, [K, ...], like images; start them from training
        images.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.

    Returns:
      The parts, each [B], nats per image.

    Raises:
      ValueError: where the shapes of mean and log_var differ, there is another number of keys, or a
        part is not [B].

    References:
      Tomczak & Welling, "VAE with a VampPrior" (2018), arXiv:1705.07120, eq. 9.
    """
    mean, log_var = encode(x)
    z = reparameterize(mean, log_var, key)
    density = _log_normal(z[:, None], mean[:, None], log_var[:, None])[:, 0]
    return _parts(nll(decode(z), x), density - mixture_log_density(z, *encode(inputs)), x)


def mixture_log_density(z: Array, mean: Array, log_var: Array) -> Array:
    r"""The log density of a mixture of K Gaussians of equal weight.

    $$
    \log \frac{1}{K} \sum_{k=1}^{K} \mathcal{N}(z;\, \mu_k, \sigma_k^2)
    $$

    Args:
      z: [B, d].
      mean: μ, [K, d].
      log_var: log σ², [K, d].

    Returns:
      [B], nats.

    Raises:
      ValueError: where the shapes do not fit.

    References:
      Tomczak & Welling, "VAE with a VampPrior" (2018), arXiv:1705.07120, eq. 9.
    """
    numerics.check_same_shape(mean=mean, log_var=log_var)
    if z.ndim != 2 or mean.ndim != 2 or z.shape[-1] != mean.shape[-1]:
        raise ValueError(f"give z [B, d] and mean [K, d]: z has {z.shape}, mean has {mean.shape}")
    parts = _log_normal(z[:, None], mean[None], log_var[None])
    return jax.nn.logsumexp(parts, axis=1) - math.log(len(mean))


def draw_mixture(mean: Array, log_var: Array, key: Array, count: int) -> Array:
    r"""Latents from the mixture.

    $$
    z = \mu_k + \sigma_k \, \epsilon, \qquad k \sim U\{1 … K\}, \qquad
    \epsilon \sim \mathcal{N}(0, I)
    $$

    Args:
      mean: μ, [K, d].
      log_var: log σ², [K, d].
      key: one key, or one per latent [count].
      count: how many.

    Returns:
      [count, d].

    Raises:
      ValueError: where the shapes of mean and log_var differ, or there is another number of keys.

    References:
      Tomczak & Welling, "VAE with a VampPrior" (2018), arXiv:1705.07120, eq. 9.
    """
    for_which, for_noise = keys.split(key, 2, count)
    which = (keys.uniform(for_which, (count,)) * len(mean)).astype(jnp.int32)
    which = jnp.minimum(which, len(mean) - 1)  # a product may round up to K
    return reparameterize(mean[which], log_var[which], for_noise)


def _parts(nll: Array, kl: Array, x: Array) -> Elbo:
    if not nll.shape == kl.shape == x.shape[:1]:
        raise ValueError(
            f"give a batch x [B, ...], and nll and kl that return [B]: {nll.shape} and "
            f"{kl.shape} for x {x.shape}"
        )
    return Elbo(nll, kl)


def _log_normal(z: Array, mean: Array, log_var: Array) -> Array:
    """Log densities of N(mean, exp(log_var)), summed over the last axis."""
    z, mean, log_var = map(numerics.widen, (z, mean, log_var))
    squares = jnp.square(z - mean) * numerics.exp_with_tangent(-log_var)
    return -0.5 * jnp.sum(squares + log_var + math.log(2 * math.pi), axis=-1)
