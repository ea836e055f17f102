"""Paths between two latents."""

import jax.numpy as jnp
from jax import Array


def spherical(start: Array, end: Array, t: Array) -> Array:
    r"""Points on the great arc between two latents.

    Normal noise lies near a sphere: the straight line between two noises passes through its empty
    inside, where no network was trained.

    $$
    \frac{\sin((1 - t)\,\Omega)\,z_0 + \sin(t\,\Omega)\,z_1}{\sin\Omega},\quad
    \cos\Omega = \frac{\langle z_0, z_1\rangle}{\lVert z_0\rVert\,\lVert z_1\rVert}
    $$

    Args:
      start: [...].
      end: [...].
      t: [n], in 0..1.

    Returns:
      [n, ...].

    References:
      Shoemake, "Animating Rotation with Quaternion Curves" (SIGGRAPH 1985).
      White, "Sampling Generative Networks" (2016), arXiv:1609.04468, section 2.1.
    """
    cosine = jnp.vdot(start, end) / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    t = t.reshape(-1, *[1] * start.ndim)
    near = jnp.sin(angle) < 1e-4  # parallel: the arc is a line
    weights = [
        jnp.where(near, w, jnp.sin(w * angle) / jnp.where(near, 1, jnp.sin(angle)))
        for w in (1 - t, t)
    ]
    return weights[0] * start[None] + weights[1] * end[None]


def linear(start: Array, end: Array, t: Array) -> Array:
    """Points on the straight line between two latents.

    Args:
      start: [...].
      end: [...].
      t: [n], in 0..1.

    Returns:
      [n, ...].
    """
    t = t.reshape(-1, *[1] * start.ndim)
    return (1 - t) * start[None] + t * end[None]
