"""JPEG as a differentiable function: 8 x 8 blocks, cosine transform, quantization, and back."""

import jax
import jax.numpy as jnp
from jax import Array, lax

# Rows of ISO/IEC 10918-1, annex K, tables K.1 and K.2.
_LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_CHROMINANCE = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *4 * [8 * [99]],
]
# JFIF: the luma and the two colour differences of RGB.
_TO_YCC = [
    [0.299, 0.587, 0.114],
    [-0.168735892, -0.331264108, 0.5],
    [0.5, -0.418687589, -0.081312411],
]
_TO_RGB = [[1.0, 0.0, 1.402], [1.0, -0.344136286, -0.714136286], [1.0, 1.772, 0.0]]


def _rounded(x: Array) -> Array:
    return x + lax.stop_gradient(jnp.round(x) - x)


def _table(base: list[list[int]], quality: int) -> Array:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return jnp.array([[min(max((v * percent + 50) // 100, 1), 255) for v in row] for row in base])


def _cosines() -> Array:
    k, n = jnp.arange(8.0)[:, None], jnp.arange(8.0)[None]
    return jnp.where(k == 0, 8**-0.5, 0.5 * jnp.cos(jnp.pi * (n + 0.5) * k / 8))


def _quantized(plane: Array, table: Array) -> Array:
    """One plane [B, H, W] of bytes through the quantized cosine transform."""
    size, height, width = plane.shape
    padded = jnp.pad(plane, ((0, 0), (0, -height % 8), (0, -width % 8)), "edge") - 128
    blocks = padded.reshape(size, padded.shape[1] // 8, 8, padded.shape[2] // 8, 8)
    d, q = _cosines().astype(plane.dtype), table.astype(plane.dtype)[None, None, :, None]
    exact = lax.Precision.HIGHEST
    spectrum = jnp.einsum("ui,bminj,vj->bmunv", d, blocks, d, precision=exact)
    spectrum = _rounded(spectrum / q) * q
    blocks = jnp.einsum("ui,bmunv,vj->bminj", d, spectrum, d, precision=exact)
    whole = _rounded(blocks.reshape(padded.shape) + 128).clip(0, 255)
    return whole[:, :height, :width]


def _halved(plane: Array) -> Array:
    """Means of 2 x 2 pixels; libjpeg repeats columns before it takes them, and rows after."""
    padded = jnp.pad(plane, ((0, 0), (0, plane.shape[1] % 2), (0, -plane.shape[2] % 16)), "edge")
    size, height, width = padded.shape
    means = padded.reshape(size, height // 2, 2, width // 2, 2).mean((2, 4))
    # Halves are rounded down and up in turns, as libjpeg does, so that brightness does not drift.
    half = (1 + jnp.arange(width // 2) % 2) / 4
    return means + lax.stop_gradient(
        jnp.floor(means + half.astype(means.dtype)[None, None]) - means
    )


def compressed(x: Array, quality: int, subsampling: bool = True) -> Array:
    r"""An image after JPEG, by the tables of libjpeg.

    For each 8 x 8 block b of a plane of luma or colour difference, with the orthonormal cosine
    transform D and the table Q of the quality:

    $$
    \hat b = D^\top \left( Q \odot \left\lfloor \frac{D\, (b - 128)\, D^\top}{Q} \right\rceil
    \right) D + 128
    $$

    Every rounding, also of planes to bytes, has the gradient of the identity (straight-through);
    the clip to 0..255 has its own. Colour differences at half the resolution are interpolated
    linearly, as libjpeg does by default. Integer arithmetic inside libjpeg rounds otherwise by one
    unit now and then.

    Args:
      x: [B, H, W, 1], grey, or [B, H, W, 3], RGB; floats, 0 for black and 255 for white.
      quality: 1 to 100.
      subsampling: whether colour differences are halved (4:2:0).

    Returns:
      Like x, in 0..255.

    References:
      ISO/IEC 10918-1, "Digital Compression and Coding of Continuous-Tone Still Images" (1994).
      Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
      Computation" (2013), arXiv:1308.3432.
    """
    bright, coloured = _table(_LUMINANCE, quality), _table(_CHROMINANCE, quality)
    if x.shape[-1] == 1:
        return _quantized(_rounded(x[..., 0]), bright)[..., None]
    size, height, width, _ = x.shape
    centre = jnp.array([0, 128, 128], x.dtype).reshape(3, 1, 1, 1)
    exact = lax.Precision.HIGHEST
    ycc = _rounded(
        jnp.einsum("bhwr,cr->cbhw", x, jnp.array(_TO_YCC, x.dtype), precision=exact) + centre
    )
    planes = [_quantized(ycc[0], bright)]
    for plane in ycc[1:]:
        if subsampling:
            rows, columns = -(-height // 2), -(-width // 2)
            half = _quantized(_halved(plane), coloured)[:, :rows, :columns]
            doubled = jax.image.resize(half, (size, 2 * rows, 2 * columns), "linear")
            planes.append(_rounded(doubled[:, :height, :width]))
        else:
            planes.append(_quantized(plane, coloured))
    ycc = jnp.stack(planes) - centre
    rgb = jnp.einsum("cbhw,rc->bhwr", ycc, jnp.array(_TO_RGB, x.dtype), precision=exact)
    return _rounded(rgb).clip(0, 255)
