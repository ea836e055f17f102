"""The KL of a VAE split into mutual information, total correlation and dimension-wise KL."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class BetaTC(NamedTuple):
    """−ELBO in four parts, each [B], nats per image; the last three are estimates from one z."""

    nll: Array
    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array

    def loss(self, alpha: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Array:
        """nll + α·mutual information + β·total correlation + γ·dimension-wise KL, [B]."""
        kl = alpha * self.mutual_information + beta * self.total_correlation
        return self.nll + kl + gamma * self.dimension_wise_kl


def minibatch_weighted(batch: int, dataset: int) -> Array:
    """Log weights [B, B] of q(z_i) ≈ 1/(N·B) Σ_j q(z_i|x_j), biased. Chen et al. (2018)."""
    return jnp.full((batch, batch), -math.log(batch * dataset))


def minibatch_stratified(batch: int, dataset: int) -> Array:
    """Log weights [B, B] of q(z_i) ≈ 1/N q(z_i|x_i) + (N−1)/N · mean_{j≠i} q(z_i|x_j): unbiased.

    Chen et al. (2018) weigh the B−1 others unequally, one of them standing in for the unseen; this
    is their estimator's average over which one. (Their released code puts the 1/N on the first
    column and not on the diagonal.)
    """
    if not 2 <= batch <= dataset:
        raise ValueError(f"give 2 ≤ batch ≤ dataset: batch is {batch}, dataset is {dataset}")
    others = math.log(dataset - 1) - math.log(dataset) - math.log(batch - 1)
    return jnp.where(jnp.eye(batch, dtype=bool), -math.log(dataset), others)


def beta_tc(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    dataset: int,
    weights: Callable[[int, int], Array] = minibatch_stratified,
) -> BetaTC:
    """−ELBO with KL(q(z|x) ‖ N(0, I)) split in three, one z per image.

    encode, decode, nll, key as in an ELBO; dataset: the number N of training images; weights: how
    q(z) is estimated from the batch, minibatch_stratified or minibatch_weighted. Gives BetaTC.
    Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018), equation 2.
    """
    mean, log_var = encode(x)
    if mean.shape != log_var.shape:
        raise ValueError(
            f"give mean and log_var one shape: mean has {mean.shape}, log_var has {log_var.shape}"
        )
    noise = _normal(key, mean.shape)
    z = (_widen(mean) + _exp(0.5 * _widen(log_var)) * noise).astype(mean.dtype)
    log_weights = weights(x.shape[0], dataset)
    return BetaTC(nll(decode(z), x), *decompose_kl(mean, log_var, noise, log_weights))


def decompose_kl(
    mean: Array, log_var: Array, noise: Array, log_weights: Array
) -> tuple[Array, Array, Array]:
    """(log q(z|x) − log q(z), log q(z) − Σ_d log q(z_d), Σ_d log q(z_d) − log p(z)), each [B].

    mean, log_var, noise: [B, ...]; z = μ + σ·noise, p = N(0, I). q(z_i) = Σ_j w_ij q(z_i|x_j) and
    its marginals take log_weights [B, B]: estimates by the whole batch, so no image's number is its
    own. The three add up to log q(z|x) − log p(z) exactly. Memory: B²·(number of latents).
    Chen et al. (2018), equation 2.
    """
    mean, log_var, noise = (_widen(a).reshape(a.shape[0], -1) for a in (mean, log_var, noise))
    step = _exp(0.5 * log_var) * noise
    # [B of z, B of q, D]; (μ_i − μ_j) + σ_i·ε_i and not z_i − μ_j, which would drown a small σ_i.
    residual = (mean[:, None] - mean[None] + step[:, None]) * _exp(-0.5 * log_var)[None]
    log_q = -0.5 * (residual**2 + log_var[None])  # without log 2π, as p below: it cancels
    log_prior = -0.5 * jnp.sum((mean + step) ** 2, axis=-1)
    log_conditional = -0.5 * jnp.sum(noise**2 + log_var, axis=-1)
    log_joint = jax.nn.logsumexp(log_weights + log_q.sum(-1), axis=1)
    log_marginals = jax.nn.logsumexp(log_weights[..., None] + log_q, axis=1).sum(-1)
    return log_conditional - log_joint, log_joint - log_marginals, log_marginals - log_prior


def _exp(a: Array) -> Array:
    # Past e^30 its tangent: finite, with a gradient that still points home, where exp gives inf.
    return jnp.exp(jnp.minimum(a, 30)) * (1 + jnp.maximum(a - 30, 0))


def _normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise from one key, or example by example from [B] keys."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim == 0:
        return jax.random.normal(key, shape)
    if key.shape != shape[:1]:
        raise ValueError(f"give one key, or one per example: {key.shape} keys for shape {shape}")
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(key)


def _widen(a: Array) -> Array:
    """At least float32: sums and exponentials in bfloat16 would lose the answer."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
