"""Bits per dimension of quantised images under a density, by uniform dequantisation."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from genjax import keys


def dequantized_bits_per_dim(
    log_density: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    key: jax.Array,
    *,
    low: float = -1.0,
    high: float = 1.0,
    levels: int = 256,
) -> jax.Array:
    r"""Bits per dimension of uniformly dequantised images, an upper bound in expectation.

    $$
    -\frac{1}{D} \log_2 p(x + u), \qquad u \sim \mathcal{U}[0, 1)^D
    $$

    p is a density of x + u on [0, levels)^D. The probability of x is P(x) = ∫ p(x + u) du, so that
    by Jensen's inequality the mean over u is an upper bound of −log₂ P(x)/D. On the scale of
    training grey level x is low + w·x with w = (high − low)/(levels − 1); there the bin of x is
    centred on it, y = low + w·(x + u − ½), and log p(x + u) = log p(y) + D log w.

    Args:
      log_density: y [B, ...], on the scale of training -> log p(y) [B], nats.
      image: grey levels as integers 0 … levels − 1, [B, ...], D per image.
      key: one, or one per image [B].
      low: the value of grey level 0 in training.
      high: the value of grey level levels − 1 in training.
      levels: number of grey levels.

    Returns:
      [B], bits per dimension.

    Raises:
      ValueError: where the images are not integers, or there is another number of keys.

    References:
      Theis, van den Oord & Bethge, "A Note on the Evaluation of Generative Models" (2016),
      arXiv:1511.01844.
    """
    if not jnp.issubdtype(image.dtype, jnp.integer):
        raise ValueError(f"give grey levels as integers 0 … {levels - 1}, not {image.dtype}")
    width = (high - low) / (levels - 1)
    y = low + width * (image.astype(jnp.float32) + keys.uniform(key, image.shape) - 0.5)
    size = math.prod(image.shape[1:])
    return -(log_density(y) / size + math.log(width)) / math.log(2)
