"""Bits per dimension of quantised images under a density, by uniform dequantisation."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def dequantized_bits_per_dim(
    log_density: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    key: jax.Array,
    *,
    low: float = -1.0,
    high: float = 1.0,
    levels: int = 256,
) -> jax.Array:
    """−log₂ p(x + u)/D for grey levels x = 0 … levels − 1 and u ~ U[0, 1) an element: [B].

    p is a density of x + u on [0, levels)^D. log_density(y [B, ...]) -> [B], nats, knows it on the
    scale of training, where grey level x is low + w·x with w = (high − low)/(levels − 1); there the
    bin of x is centred on it, y = low + w·(x + u − ½), and log p(x + u) = log p(y) + D log w. The
    probability of x is P(x) = ∫ p(x + u) du, so that by Jensen the mean over u is an upper bound
    of −log₂ P(x)/D. image: integers [B, ...], D of them each; key: one, or one per image, [B].
    Theis, van den Oord & Bethge, "A Note on the Evaluation of Generative Models" (2016).
    """
    if not jnp.issubdtype(image.dtype, jnp.integer):
        raise ValueError(f"give grey levels as integers 0 … {levels - 1}, not {image.dtype}")
    width = (high - low) / (levels - 1)
    y = low + width * (image.astype(jnp.float32) + _uniform(key, image.shape) - 0.5)
    size = math.prod(image.shape[1:])
    return -(log_density(y) / size + math.log(width)) / math.log(2)


def _uniform(key, shape):
    """U[0, 1) from one key, or example by example from [B] keys."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim == 0:
        return jax.random.uniform(key, shape)
    if key.shape != shape[:1]:
        raise ValueError(f"give one key, or one per image: {key.shape} keys for shape {shape}")
    return jax.vmap(lambda k: jax.random.uniform(k, shape[1:]))(key)
