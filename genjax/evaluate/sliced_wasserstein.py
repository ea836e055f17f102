"""The sliced Wasserstein distance between two sets of images."""

import jax
import jax.numpy as jnp


def sliced_wasserstein(
    x: jax.Array, y: jax.Array, key: jax.Array, projections: int = 256
) -> jax.Array:
    """√ E_θ W₂²(θ·x, θ·y) over random unit vectors θ: x and y [n, ...] -> [].

    In the units of a single element (root mean square over elements), estimated from `projections`
    directions; on a line the distance of two sets of n points is that of their sorted values.
    Biased upwards by n: two samples of one distribution do not score 0, so quote n and the score of
    real against real. Raises ValueError when the shapes differ. Rabin et al., "Wasserstein
    Barycenter and its Application to Texture Mixing" (2011).
    """
    if x.shape != y.shape:
        raise ValueError(f"give sets of one shape: x has {x.shape}, y has {y.shape}")
    x, y = (a.reshape(a.shape[0], -1).astype(jnp.float32) for a in (x, y))
    directions = jax.random.normal(key, (x.shape[1], projections))
    # |θ| = √d, not 1: then the distance does not shrink with the number of pixels.
    directions *= jnp.sqrt(x.shape[1]) / jnp.linalg.norm(directions, axis=0, keepdims=True)
    gap = jnp.sort(x @ directions, axis=0) - jnp.sort(y @ directions, axis=0)
    return jnp.sqrt(jnp.mean(gap**2) / x.shape[1])
