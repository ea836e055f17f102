"""The sliced Wasserstein distance between two sets of images."""

import jax
import jax.numpy as jnp


def sliced_wasserstein(
    x: jax.Array, y: jax.Array, key: jax.Array, projections: int = 256
) -> jax.Array:
    r"""The sliced 2-Wasserstein distance between two sets of images, estimated.

    $$
    \sqrt{\mathbb{E}_\theta\, W_2^2(\theta \cdot x,\; \theta \cdot y)}
    $$

    over random directions θ; in one dimension the distance between two sets of n points is that of
    their sorted values. The estimate is biased upwards, more so for small n: two samples of one
    distribution do not score 0, so report n and the score of real against real images.

    Args:
      x: the one set, [n, ...].
      y: the other, of the same shape.
      key: one PRNG key, of the directions.
      projections: number of directions.

    Returns:
      A scalar, in the units of a single element (root mean square over elements).

    Raises:
      ValueError: where the shapes differ.

    References:
      Rabin, Peyré, Delon & Bernot, "Wasserstein Barycenter and its Application to Texture Mixing"
      (SSVM 2011).
      Bonneel, Rabin, Peyré & Pfister, "Sliced and Radon Wasserstein Barycenters of Measures"
      (JMIV 2015).
    """
    if x.shape != y.shape:
        raise ValueError(f"give sets of one shape: x has {x.shape}, y has {y.shape}")
    x, y = (a.reshape(a.shape[0], -1).astype(jnp.float32) for a in (x, y))
    directions = jax.random.normal(key, (x.shape[1], projections))
    # |θ| = √d, not 1: then the distance does not shrink with the number of pixels.
    directions *= jnp.sqrt(x.shape[1]) / jnp.linalg.norm(directions, axis=0, keepdims=True)
    gap = jnp.sort(x @ directions, axis=0) - jnp.sort(y @ directions, axis=0)
    return jnp.sqrt(jnp.mean(gap**2) / x.shape[1])
