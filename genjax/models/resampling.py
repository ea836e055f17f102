"""Halving and doubling the resolution of images by a small separable filter."""

import functools
import math

import jax
import jax.numpy as jnp

BOX = (1, 1)  # the mean of 2x2 pixels, and nearest neighbours
SMOOTH = (1, 3, 3, 1)  # bilinear


def lowest(shape: tuple[int, ...], doublings: int) -> tuple[int, int]:
    """The sides of what becomes an image by doubling the resolution so often.

    Args:
      shape: (H, W, C) of the image.
      doublings: how often.

    Returns:
      (H, W) divided by 2 to the number of doublings.

    Raises:
      ValueError: where H or W is not divisible.
    """
    h, w = shape[:2]
    if h % 2**doublings or w % 2**doublings:
        raise ValueError(
            f"{doublings} doublings need sides divisible by {2**doublings}, not {(h, w)}"
        )
    return h >> doublings, w >> doublings


def halved(x: jax.Array, taps: tuple[float, ...] = BOX) -> jax.Array:
    r"""Half the resolution.

    $$
    y_i = \sum_k f_k\, x_{2 i + k - (n/2 - 1)}, \qquad
    f = \mathrm{taps} / \textstyle\sum \mathrm{taps}
    $$

    along rows and columns, with zeros outside of the image.

    Args:
      x: images, [B, H, W, C], H and W even.
      taps: n of them, n even.

    Returns:
      [B, H / 2, W / 2, C].

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, appendix F: the resampling filters of DDPM++ and NCSN++.
    """
    before = len(taps) // 2 - 1
    padded = _padded(x, (before, before))
    return filtered(padded, taps)


def filtered(x: jax.Array, taps: tuple[float, ...]) -> jax.Array:
    """`halved` without zeros outside: what the filter reaches beyond every second pixel is there.

    Args:
      x: images, [B, 2 H + n − 2, 2 W + n − 2, C].
      taps: n of them, n even.

    Returns:
      [B, H, W, C].
    """
    total = sum(taps)
    for axis in (1, 2):
        length = x.shape[axis] - len(taps) + 1  # from the first pixel that a tap meets to the last
        parts = [
            jax.lax.slice_in_dim(x, k, k + length, 2, axis) * (tap / total)
            for k, tap in enumerate(taps)
        ]
        x = functools.reduce(jnp.add, parts)
    return x


def doubled(x: jax.Array, taps: tuple[float, ...] = BOX) -> jax.Array:
    r"""Twice the resolution: the transpose of `halved`, times 4.

    $$
    y_j = 2 \sum_i f_{j - 2 i + (n/2 - 1)}\, x_i, \qquad
    f = \mathrm{taps} / \textstyle\sum \mathrm{taps}
    $$

    along rows and columns, with zeros outside of the image.

    Args:
      x: images, [B, H, W, C].
      taps: n of them, n even.

    Returns:
      [B, 2 H, 2 W, C].

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, appendix F: the resampling filters of DDPM++ and NCSN++.
    """
    for axis in (1, 2):
        x = _doubled_along(x, axis, taps)
    return x


def _doubled_along(x: jax.Array, axis: int, taps: tuple[float, ...]) -> jax.Array:
    before, size = len(taps) // 2 - 1, x.shape[axis]
    reach = math.ceil(before / 2)
    pads = [(0, 0)] * x.ndim
    pads[axis] = (reach, reach)
    padded = jnp.pad(x, pads)

    def phase(r: int) -> jax.Array:
        # Pixel 2 m + r takes x_{m + s} by the tap r + before − 2 s.
        parts = [
            jax.lax.slice_in_dim(padded, s + reach, s + reach + size, 1, axis)
            * (2 * taps[r + before - 2 * s] / sum(taps))
            for s in range(-reach, reach + 1)
            if 0 <= r + before - 2 * s < len(taps)
        ]
        return functools.reduce(jnp.add, parts)

    y = jnp.stack([phase(0), phase(1)], axis + 1)
    return y.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def _padded(x: jax.Array, ends: tuple[int, int]) -> jax.Array:
    return jnp.pad(x, ((0, 0), ends, ends, (0, 0))) if any(ends) else x
