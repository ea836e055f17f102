"""The evidence lower bound of a variational autoencoder, by parts."""

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
        """nll + β·kl, [B]: −ELBO at β = 1, the β-VAE of Higgins et al. (2017) otherwise."""
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
    kl(mean, log_var) -> [B], gaussian_kl unless given (a place for free bits). key: one key, or one
    per image, [B]. Gives Elbo(nll [B], kl [B]), nats per image. Kingma & Welling, "Auto-Encoding
    Variational Bayes" (2014).
    """
    mean, log_var = encode(x)
    z = reparameterize(mean, log_var, key)
    return Elbo(nll(decode(z), x), (kl or gaussian_kl)(mean, log_var))


def reparameterize(mean: Array, log_var: Array, key: Array) -> Array:
    """z = μ + exp(½ log σ²)·ε with ε ~ N(0, I); shape and dtype of mean. key: one, or [B]."""
    _same_shape(mean=mean, log_var=log_var)
    noise = _normal(key, mean.shape)
    return (_widen(mean) + _exp(0.5 * _widen(log_var)) * noise).astype(mean.dtype)


def gaussian_kl(mean: Array, log_var: Array) -> Array:
    """KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ μ² + σ² − 1 − log σ²; [B, ...] -> [B], nats per image."""
    _same_shape(mean=mean, log_var=log_var)
    mean, log_var = _widen(mean), _widen(log_var)
    elements = 0.5 * (mean**2 + _exp(log_var) - 1 - log_var)
    return jnp.sum(elements, axis=tuple(range(1, elements.ndim)))


def _exp(a: Array) -> Array:
    # Past e^30 the tangent: finite, and its gradient still points home, where exp would be inf.
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
