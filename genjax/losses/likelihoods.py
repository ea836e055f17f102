"""Negative log-likelihoods of images under a decoder's output, in nats per image."""

import math

import jax.numpy as jnp
from jax import Array


def bernoulli(logits: Array, x: Array) -> Array:
    """Σ x·softplus(−l) + (1−x)·softplus(l): −log of a Bernoulli's probability, from its logits l.

    logits, x: [B, ...], x in [0, 1]. Gives [B], nats per image. Targets strictly between 0 and 1
    give the cross entropy, the field's usual objective on grey values, which is no likelihood of them.
    """
    logits, x = _widen(logits), _widen(x)
    _same_shape(logits=logits, x=x)
    # One exp of −|l|: nothing overflows, nothing cancels. `where` and not abs, whose derivative at
    # 0 would spoil the second derivative of a zero-initialised decoder.
    size = jnp.where(logits >= 0, logits, -logits)
    wrong = jnp.where(logits >= 0, 1 - x, x)
    return _per_image(wrong * size + jnp.log1p(jnp.exp(-size)))


def gaussian(mean: Array, x: Array, *, sigma: float | Array = 1.0) -> Array:
    """Σ ½((x−μ)/σ)² + log σ + ½log 2π, a Gaussian of fixed σ.

    mean, x: [B, ...]; sigma: a positive number, or an array that broadcasts to x. Gives [B], nats
    per image (a density: it can be negative).
    """
    mean, x, sigma = _widen(mean), _widen(x), _widen(sigma)
    _same_shape(mean=mean, x=x)
    return _per_image(
        0.5 * ((x - mean) / sigma) ** 2 + jnp.log(sigma) + 0.5 * math.log(2 * math.pi)
    )


def _widen(a) -> Array:
    """At least float32: sums and exponentials in bfloat16 would lose the answer."""
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def _per_image(elements: Array) -> Array:
    return jnp.sum(elements, axis=tuple(range(1, elements.ndim)))


def _same_shape(**arrays: Array) -> None:
    (a, p), (b, q) = arrays.items()
    if p.shape != q.shape:
        raise ValueError(f"give {a} and {b} one shape: {a} has {p.shape}, {b} has {q.shape}")
