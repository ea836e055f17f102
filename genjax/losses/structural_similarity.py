"""SSIM and MS-SSIM of pairs of images: similarity of luminance, contrast and structure."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from genjax import numerics

# Wang et al. 2003, section 3.2: exponents of the five scales, the finest first.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(
    x: Array,
    y: Array,
    *,
    low: float = -1.0,
    high: float = 1.0,
    window: int = 11,
    std: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Array:
    r"""The structural similarity of two images, 1 where they are equal.

    The mean over channels and over the places where the window lies in the image. As a loss take
    1 − ssim.

    $$
    \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
      {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \qquad
    c_i = (k_i (\mathrm{high} - \mathrm{low}))^2
    $$

    Args:
      x: images, [B, H, W, C], H and W at least `window`.
      y: like x.
      low: the least value of an image.
      high: the greatest; values are counted from `low`, as the luminance of bytes is from 0.
      window: pixels of the Gaussian window's side.
      std: its standard deviation, in pixels.
      k1: of c₁.
      k2: of c₂.

    Returns:
      [B], in −1…1.

    Raises:
      TypeError: where `window` is traced.
      ValueError: where x is of integers, the shapes differ, or an image is smaller than the window.

    References:
      Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (IEEE
      Transactions on Image Processing, 2004), eq. 13.
    """
    x, y = _images(x, y, low, high, window)
    luminance, structure = _parts(x, y, window, std, k1, k2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def ms_ssim(
    x: Array,
    y: Array,
    *,
    low: float = -1.0,
    high: float = 1.0,
    window: int = 11,
    std: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    scales: Sequence[float] = SCALES,
) -> Array:
    r"""The structural similarity over several scales, each half as fine as the one before.

    Contrast and structure at every scale, luminance at the last. Negative parts count as 0, as in
    TensorFlow and PyTorch. Five scales need 176 pixels a side: give the first few of `SCALES`,
    divided by their sum, for smaller images.

    $$
    \prod_{c} \; l_M^{\,w_M} \prod_{j=1}^{M} \mathrm{cs}_j^{\,w_j}
    $$

    in each channel c, whose mean is returned.

    Args:
      x: images, [B, H, W, C].
      y: like x.
      low: the least value of an image.
      high: the greatest.
      window: pixels of the Gaussian window's side.
      std: its standard deviation, in pixels.
      k1: of c₁.
      k2: of c₂.
      scales: w, the exponent of each scale.

    Returns:
      [B], in 0…1.

    Raises:
      TypeError: where `window` is traced.
      ValueError: where x is of integers, the shapes differ, or an image is smaller than the window
        at the last scale.

    References:
      Wang, Simoncelli & Bovik, "Multi-scale Structural Similarity for Image Quality Assessment"
      (Asilomar Conference on Signals, Systems and Computers, 2003), eq. 7.
    """
    x, y = _images(x, y, low, high, window * 2 ** (len(scales) - 1))
    product = jnp.ones((len(x), x.shape[-1]), x.dtype)
    for j, weight in enumerate(scales):
        luminance, structure = _parts(x, y, window, std, k1, k2)
        last = j == len(scales) - 1
        part = (luminance * structure if last else structure).mean((1, 2))
        # A power's slope at 0 is infinite.
        product *= jnp.where(part > 0, jnp.where(part > 0, part, 1.0) ** weight, 0.0)
        x, y = (_halved(image) for image in (x, y))
    return product.mean(-1)


def _images(x: Array, y: Array, low: float, high: float, least: int) -> tuple[Array, Array]:
    """Images in 0..1."""
    numerics.check_floats(x=x)
    numerics.check_same_shape(x=x, y=y)
    numerics.check_static(window=least)
    if x.ndim != 4 or min(x.shape[1:3]) < least:
        raise ValueError(
            f"give images [B, H, W, C] of {least} pixels a side at least, got {x.shape}: a smaller "
            "window or fewer scales need less"
        )
    wide = ((numerics.widen(image) - low) / (high - low) for image in (x, y))
    return next(wide), next(wide)


def _parts(
    x: Array, y: Array, window: int, std: float, k1: float, k2: float
) -> tuple[Array, Array]:
    """Luminance, and contrast and structure, at each place and channel."""
    c1, c2 = k1**2, k2**2
    # Around 1/2 the squares of means cancel less: σ² = E[x²] − E[x]² at any offset.
    a, b = x - 0.5, y - 0.5
    moments = jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1)
    mean_a, mean_b, aa, bb, ab = jnp.split(_blurred(moments, window, std), 5, axis=-1)
    var_a, var_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    mu, nu = mean_a + 0.5, mean_b + 0.5
    luminance = (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def _blurred(images: Array, window: int, std: float) -> Array:
    """By a Gaussian window, where it lies inside: rows, then columns."""
    places = [i - (window - 1) / 2 for i in range(window)]
    weights = [math.exp(-0.5 * (place / std) ** 2) for place in places]
    kernel = jnp.asarray([w / sum(weights) for w in weights], images.dtype)
    channels = images.shape[-1]
    for shape in ((window, 1, 1, 1), (1, window, 1, 1)):
        images = jax.lax.conv_general_dilated(
            images,
            jnp.tile(kernel.reshape(shape), (1, 1, 1, channels)),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
            precision=jax.lax.Precision.HIGHEST,
        )
    return images


def _halved(images: Array) -> Array:
    """Means of 2 x 2 pixels; a last odd row or column is skipped."""
    b, h, w, c = images.shape
    even = images[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
