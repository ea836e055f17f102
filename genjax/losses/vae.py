"""The evidence lower bound of a variational autoencoder by parts: reconstruction, KL, free bits."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Elbo(NamedTuple):
    """The two parts of −ELBO, each [B], nats per image."""

    nll: Array
    kl: Array

    def loss(self, beta: float | Array = 1.0) -> Array:
        """nll + β·kl, [B]: −ELBO at β = 1, else the β-VAE of Higgins et al. (2017)."""
        return self.nll + beta * self.kl


def elbo(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    kl: Callable[[Array, Array], Array] | None = None,
) -> Elbo:
    """−ELBO = E_q(z|x)[−log p(x|z)] + KL(q(z|x) ‖ N(0, I)), with one z per image.

    encode(x) -> (mean, log_var), each [B, ...]; decode(z) -> parameters; nll(parameters, x) -> [B];
    kl(mean, log_var) -> [B], gaussian_kl unless given: the place for free bits or another prior.
    key: one, or one per image, [B]. Gives Elbo(nll [B], kl [B]), nats per image. Kingma & Welling,
    "Auto-Encoding Variational Bayes" (2014).
    """
    mean, log_var = encode(x)
    z = reparameterize(mean, log_var, key)
    return Elbo(nll(decode(z), x), (kl or gaussian_kl)(mean, log_var))


def reparameterize(mean: Array, log_var: Array, key: Array) -> Array:
    """z = μ + exp(½ log σ²)·ε with ε ~ N(0, I); shape and dtype of mean. key: one, or [B].

    Kingma & Welling (2014), section 2.4.
    """
    _same_shape(mean=mean, log_var=log_var)
    noise = _normal(key, mean.shape)
    return (_widen(mean) + _exp(0.5 * _widen(log_var)) * noise).astype(mean.dtype)


def gaussian_kl(mean: Array, log_var: Array, prior: tuple[Array, Array] | None = None) -> Array:
    """KL(N(μ, σ²) ‖ N(m, s²)) = ½ Σ σ²/s² − 1 − log σ²/s² + (μ−m)²/s²; [B, ...] -> [B], nats.

    prior: (m, log s²) of the same shape, N(0, I) unless given. Kingma & Welling (2014), appendix B.
    Where a ratio of variances passes e⁶⁰ it goes on as its tangent, to stay finite in float32.
    """
    elements = gaussian_kl_per_dimension(mean, log_var, prior)
    return jnp.sum(elements, axis=tuple(range(1, elements.ndim)))


def gaussian_kl_per_dimension(
    mean: Array, log_var: Array, prior: tuple[Array, Array] | None = None
) -> Array:
    """The terms of gaussian_kl before their sum: [B, ...] -> [B, ...], nats per latent."""
    _same_shape(mean=mean, log_var=log_var)
    mean, log_var = _widen(mean), _widen(log_var)
    if prior is not None:
        prior_mean, prior_log_var = prior
        _same_shape(mean=mean, prior_mean=prior_mean)
        _same_shape(mean=mean, prior_log_var=prior_log_var)
        log_var = log_var - _widen(prior_log_var)
        mean = (mean - _widen(prior_mean)) * _exp(-0.5 * _widen(prior_log_var))
    # expm1(a) − a, not exp(a) − 1 − a: near the prior the difference is all there is.
    below = jnp.expm1(jnp.minimum(log_var, 60))
    above = math.exp(60) * jnp.maximum(log_var - 60, 0)
    return 0.5 * (below + above - log_var + mean**2)


def free_bits(kl: Array, nats: float | Array) -> Array:
    """Σ_j max(λ, KL_j), each image by itself: [B, ...] -> [B]; λ = nats per latent or group j.

    kl: from gaussian_kl_per_dimension, summed over a group's latents first where λ is per group. An
    image's latent under λ has no gradient. Kingma et al. (2016) average over the batch before
    the max: that is free_bits_of_batch.
    """
    return jnp.sum(jnp.maximum(_widen(kl), nats), axis=tuple(range(1, kl.ndim)))


def free_bits_of_batch(kl: Array, nats: float | Array, *, axis_name: str | None = None) -> Array:
    """Numbers [B] whose batch mean is Σ_j max(λ, mean_b KL_bj), the free bits of the paper.

    kl: [B, ...] as in free_bits. Image b's number is Σ_j of KL_bj where the batch mean of latent or
    group j passes λ, and of λ where not: so it depends on the whole batch, and j has a gradient
    for all images or none. Under pmap, name its axis for the mean of all devices. Kingma et al.,
    "Improved Variational Inference with Inverse Autoregressive Flow" (2016), appendix C.8.
    """
    kl = _widen(kl)
    mean = jnp.mean(kl, axis=0, keepdims=True)
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    return jnp.sum(jnp.where(mean > nats, kl, nats), axis=tuple(range(1, kl.ndim)))


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


def _same_shape(**arrays: Array) -> None:
    (a, p), (b, q) = arrays.items()
    if p.shape != q.shape:
        raise ValueError(f"give {a} and {b} one shape: {a} has {p.shape}, {b} has {q.shape}")
