"""A decoder's latent given an observation, by weighting and resampling draws of a proposal."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.edit import latent_density
from genjax.edit.latent_density import Decode, LogPrior
from genjax.edit.operator import Operator
from genjax.losses.importance import effective_sample_size
from genjax.numerics import check_floats, check_same_shape, check_static, widen


class Resampled(NamedTuple):
    """Latents that were drawn in proportion to their weights.

    Attributes:
      z: [B, answers, *latent], the same one several times where few have all the weight.
      x: their images, [B, answers, *operator.shape].
      effective_samples: how many samples carried the weights, [B], from 1 to `samples`. Under 10
        the answers are the best of the proposal's draws and no posterior.
      misfit: root mean square of (y − A x)/σ_y over the images x, [B], see
        `latent_density.misfit`.
    """

    z: Array
    x: Array
    effective_samples: Array
    misfit: Array


def importance_resampling(
    decode: Decode,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    latent: tuple[int, ...],
    noise: float | Array,
    log_prior: LogPrior | None = None,
    proposal: tuple[Array, Array] | None = None,
    samples: int = 1000,
    answers: int = 4,
    chunk: int = 100,
) -> Resampled:
    r"""Draws from a proposal, weighted by the posterior and resampled: no gradients, no chains.

    $$
    w_i = \frac{p(y|z_i)\, p(z_i)}{q(z_i)}, \qquad z_i \sim q, \qquad
    P(\text{answer} = z_i) = \frac{w_i}{\sum_j w_j}
    $$

    Exact as the samples grow, from all modes at once; but the samples it takes grow exponentially
    with what y says about z. From the prior it serves a few observed pixels at much noise. A VAE
    has a better proposal: q(z|x) of a guess of the image, such as the observation with its hole
    filled by the mean image, at twice its standard deviation, so that its tails cover the
    posterior.

    Args:
      decode: g, z [B, *latent] -> x [B, *operator.shape], each example on its own.
      key: one key, or one per example [B]: then example i depends on key i alone.
      y: what was observed, [B, ...].
      operator: A, any.
      latent: shape of one z.
      noise: σ_y in units of x, a positive scalar or one value per example [B]: of y's noise and of
        what the decoder cannot express together.
      log_prior: z [B, *latent] -> [B]; None for N(0, I).
      proposal: mean and standard deviation of q, each [B, *latent]; None for N(0, I).
      samples: per example.
      answers: latents to return per example.
      chunk: samples per example that are decoded together; memory grows with them alone.

    Returns:
      The answers, and how many samples carried them.

    Raises:
      TypeError: where a number of samples is traced.
      ValueError: where the noise is not positive, a number of samples is under 1, shapes do not
        fit each other, or there is another number of keys.

    References:
      Rubin, "Using the SIR Algorithm to Simulate Posterior Distributions" (Bayesian Statistics 3,
      1988).
    """
    check_static(samples=samples, answers=answers, chunk=chunk)
    if min(samples, answers, chunk) < 1:
        raise ValueError(
            f"give at least 1 sample, answer and chunk, not {samples}, {answers} and {chunk}"
        )
    density = latent_density.log_joint(
        decode, y, operator, latent=latent, noise=noise, log_prior=log_prior
    )
    shape = (len(y), *latent)
    mean, std = _proposal(proposal, shape)
    each = latent_density.key_per_example(key, len(y))
    for_samples, for_choice = keys.split(each, 2)

    def log_weight(i: Array) -> Array:
        noise = keys.normal(keys.fold_in(for_samples, i), shape, mean.dtype)
        value = density((mean + std * noise)[:, None])[:, 0]
        return value + 0.5 * jnp.sum(noise**2, axis=tuple(range(1, noise.ndim)))

    log_w = jax.lax.map(log_weight, jnp.arange(samples), batch_size=min(chunk, samples))
    log_w = jnp.where(jnp.isnan(log_w), -jnp.inf, log_w)

    # The latents are drawn again from their keys, so that only the weights are kept.
    def answer(key: Array, choice: Array, log_w: Array, mean: Array, std: Array) -> Array:
        # By the inverse of the distribution: one uniform number per answer.
        below = jnp.cumsum(jax.nn.softmax(log_w))
        u = below[-1] * jax.random.uniform(choice, (answers,))
        chosen = jnp.minimum(jnp.searchsorted(below, u, side="right"), samples - 1)
        again = jax.vmap(jax.random.fold_in, (None, 0))(key, chosen)
        return mean[None] + std[None] * keys.normal(again, (answers, *latent), mean.dtype)

    z = jax.vmap(answer, (0, 0, 1, 0, 0))(for_samples, for_choice, log_w, mean, std)
    x = jax.vmap(decode, 1, 1)(z)
    fits = jax.vmap(latent_density.misfit, (None, None, 1, None), 1)(operator, y, x, noise)
    return Resampled(z, x, effective_sample_size(log_w), jnp.sqrt(jnp.mean(fits**2, 1)))


def _proposal(given: tuple[Array, Array] | None, shape: tuple[int, ...]) -> tuple[Array, Array]:
    if given is None:
        return jnp.zeros(shape), jnp.ones(shape)
    mean, std = given
    check_floats(mean=mean, std=std)
    check_same_shape(mean=mean, std=std)
    if mean.shape != shape:
        raise ValueError(f"the proposal must have shape {shape}, not {mean.shape}")
    return widen(mean), widen(std)
