"""The KL of a VAE split into mutual information, total correlation and dimension-wise KL."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics, over_batch


class BetaTC(NamedTuple):
    """−ELBO in four parts, the last three estimated from one z per image.

    Attributes:
      nll: −log p(x|z), [B], nats per image.
      mutual_information: log q(z|x) − log q(z), [B], nats per image.
      total_correlation: log q(z) − Σ_d log q(z_d), [B], nats per image.
      dimension_wise_kl: Σ_d log q(z_d) − log p(z), [B], nats per image.
    """

    nll: Array
    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array

    def loss(self, alpha: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Array:
        r"""The weighted sum of the parts: −ELBO where all weights are 1.

        $$
        \mathcal{L} = \mathrm{nll} + \alpha\,\mathrm{MI} + \beta\,\mathrm{TC} + \gamma\,\mathrm{DKL}
        $$

        Args:
          alpha: weight of the mutual information.
          beta: weight of the total correlation.
          gamma: weight of the dimension-wise KL.

        Returns:
          [B], nats per image.

        References:
          Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018), arXiv:1802.04942,
          eq. 4.
        """
        kl = alpha * self.mutual_information + beta * self.total_correlation
        return self.nll + kl + gamma * self.dimension_wise_kl


def minibatch_weighted(batch: int, dataset: int) -> Array:
    r"""Log weights of minibatch-weighted sampling, a biased estimate of q(z).

    $$
    q(z_i) \approx \frac{1}{NB} \sum_j q(z_i|x_j)
    $$

    Args:
      batch: number B of images in the global batch.
      dataset: number N of training images.

    Returns:
      [B, B], the logarithm of the weight of q(z_i|x_j) at [i, j].

    Raises:
      TypeError: where `batch` is traced.

    References:
      Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018), arXiv:1802.04942,
      section 3.1.
    """
    numerics.check_static(batch=batch)
    return jnp.full((batch, batch), -numerics.math_of(dataset).log(batch * dataset))


def minibatch_stratified(batch: int, dataset: int) -> Array:
    r"""Log weights of minibatch-stratified sampling, an unbiased estimate of q(z).

    Chen et al. weigh the B − 1 others unequally, one of them standing in for the unseen; this is
    their estimator's average over which one. (Their released code puts the 1/N on the first
    column and not on the diagonal.)

    $$
    q(z_i) \approx \frac{1}{N} q(z_i|x_i)
      + \frac{N - 1}{N} \, \frac{1}{B - 1} \sum_{j \ne i} q(z_i|x_j)
    $$

    Args:
      batch: number B of images in the global batch.
      dataset: number N of training images.

    Returns:
      [B, B], the logarithm of the weight of q(z_i|x_j) at [i, j].

    Raises:
      TypeError: where `batch` is traced.
      ValueError: unless 2 ≤ batch ≤ dataset.

    References:
      Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018), arXiv:1802.04942,
      appendix C.2.
    """
    numerics.check_static(batch=batch)
    if batch < 2 or (not numerics.is_traced(dataset) and dataset < batch):
        raise ValueError(f"give 2 ≤ batch ≤ dataset: batch is {batch}, dataset is {dataset}")
    log = numerics.math_of(dataset).log
    others = log(dataset - 1) - log(dataset) - math.log(batch - 1)
    return jnp.where(jnp.eye(batch, dtype=bool), -log(dataset), others)


def beta_tc(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable[[Array], Any],
    x: Array,
    key: Array,
    *,
    nll: Callable[[Any, Array], Array],
    dataset: int,
    weights: Callable[[int, int], Array] = minibatch_stratified,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> BetaTC:
    r"""−ELBO with the KL to N(0, I) split in three, one z per image.

    $$
    \mathbb{E}\,\mathrm{KL}(q(z|x) \,\|\, p(z)) = I_q(x; z)
      + \mathrm{KL}\Big(q(z) \,\Big\|\, \prod_d q(z_d)\Big)
      + \sum_d \mathrm{KL}(q(z_d) \,\|\, p(z_d))
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...].
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      dataset: number of training images.
      weights: (batch, dataset) -> log weights [batch, batch], how q(z) is estimated from the
        global batch: `minibatch_stratified` or `minibatch_weighted`.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The parts, each [B], nats per image.

    Raises:
      ValueError: where the shapes of mean and log_var differ, there is another number of keys, or
        `weights` rejects the sizes.

    References:
      Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018), arXiv:1802.04942, eq. 2.
    """
    mean, log_var = encode(x)
    numerics.check_floats(mean=mean)
    numerics.check_same_shape(mean=mean, log_var=log_var)
    noise = keys.normal(key, mean.shape)
    std = numerics.exp_with_tangent(0.5 * numerics.widen(log_var))
    z = (numerics.widen(mean) + std * noise).astype(mean.dtype)
    log_weights = weights(x.shape[0] * over_batch.shards(axis_name), dataset)
    parts = decompose_kl(mean, log_var, noise, log_weights, axis_name=axis_name)
    return BetaTC(nll(decode(z), x), *parts)


def decompose_kl(
    mean: Array,
    log_var: Array,
    noise: Array,
    log_weights: Array,
    *,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> tuple[Array, Array, Array]:
    r"""Mutual information, total correlation and dimension-wise KL of sampled codes.

    They are estimated by the global batch, so that no image's value depends on itself alone. The
    three add up to log q(z|x) − log p(z) exactly. Memory: B² times the number of latents, divided
    by the number of devices.

    $$
    \log \frac{q(z|x)}{q(z)}, \qquad \log \frac{q(z)}{\prod_d q(z_d)}, \qquad
      \log \frac{\prod_d q(z_d)}{p(z)}, \qquad
    q(z_i) = \sum_j w_{ij} \, q(z_i|x_j)
    $$

    Args:
      mean: of q(z|x), [B, ...].
      log_var: of q(z|x), like `mean`.
      noise: like `mean`; z = mean + σ·noise, p(z) = N(0, I).
      log_weights: log w, [B, B] for the B images of the global batch, all devices' together.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The three parts, each [B], nats per image.

    References:
      Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018), arXiv:1802.04942, eq. 2.
    """
    wide = (numerics.widen(a).reshape(a.shape[0], -1) for a in (mean, log_var, noise))
    mean, log_var, noise = wide
    every_mean, every_log_var = (over_batch.gather(a, axis_name) for a in (mean, log_var))
    log_weights = over_batch.own_rows(log_weights, mean.shape[0], axis_name)
    step = numerics.exp_with_tangent(0.5 * log_var) * noise
    # [B of z, B of q, D]; (μ_i − μ_j) + σ_i·ε_i and not z_i − μ_j, which would drown a small σ_i.
    distance = mean[:, None] - every_mean[None] + step[:, None]
    residual = distance * numerics.exp_with_tangent(-0.5 * every_log_var)[None]
    log_q = -0.5 * (residual**2 + every_log_var[None])  # no log 2π, as p below: it cancels
    log_prior = -0.5 * jnp.sum((mean + step) ** 2, axis=-1)
    log_conditional = -0.5 * jnp.sum(noise**2 + log_var, axis=-1)
    log_joint = jax.nn.logsumexp(log_weights + log_q.sum(-1), axis=1)
    log_marginals = jax.nn.logsumexp(log_weights[..., None] + log_q, axis=1).sum(-1)
    return log_conditional - log_joint, log_joint - log_marginals, log_marginals - log_prior
