"""What happens to images before a network: three channels, and one antialiased resizing."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def resize(images: Array, side: int) -> Array:
    """Resizes images to a square as Pillow resizes floats: bicubic, antialiased, not rounded.

    Libraries differ in how they make images smaller, and those that do not filter before they
    subsample change FID by more than many papers' improvements.

    Args:
      images: uint8 or float [B, H, W, C], in 0..255.
      side: H and W of the result; images that are no squares are stretched.

    Returns:
      float32 [B, side, side, C], in 0..255: what overshoots is clipped.

    References:
      Parmar, Zhang & Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation" (2022),
      arXiv:2104.11222, section 3.
      Keys, "Cubic Convolution Interpolation for Digital Image Processing" (IEEE TASSP 1981), with
      a = −1/2.
    """
    x = jnp.asarray(images, jnp.float32)
    if x.shape[1:3] == (side, side):
        return x
    for axis in (1, 2):
        weights = jnp.asarray(_weights(x.shape[axis], side), jnp.float32)
        x = jnp.moveaxis(
            jnp.tensordot(x, weights, (axis, 1), precision=lax.Precision.HIGHEST), -1, axis
        )
    return jnp.clip(x, 0, 255)


def _weights(n: int, side: int) -> np.ndarray:
    """[side, n], what each of n pixels in a row adds to each of `side`; `jax.image.resize` computes
    these in float32, which is off by 1e-3 of 255."""
    centers = (np.arange(side) + 0.5) * n / side
    t = np.abs(np.arange(n) + 0.5 - centers[:, None]) / max(n / side, 1)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


def resized_rgb(images: Array, side: int) -> Array:
    """What a network that was trained on photographs takes.

    Args:
      images: uint8 or float [B, H, W, C], in 0..255; C is 1 for grey or 3 for RGB.
      side: H and W of the result.

    Returns:
      float32 [B, side, side, 3], in 0..255; grey images have three equal channels.

    Raises:
      ValueError: for another number of channels.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"this network takes images [B, H, W, 1 or 3], not {images.shape}")
    x = resize(images, side)
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


def in_words(side: int) -> str:
    """What `resized_rgb` does, as a score records it.

    Args:
      side: H and W of the result.

    Returns:
      One line.
    """
    return f"bicubic, antialiased, to {side}x{side}; grey repeated to 3 channels"
