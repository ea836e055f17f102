"""The noise of an observation, from the observation alone."""

import jax.numpy as jnp
from jax import Array

from genjax.numerics import check_floats

# The median of |N(0, 1)|; and the root of the sum of squares of the weights of [1, −2, 1] twice.
_NORMAL_MEDIAN, _WEIGHT = 0.6744897501960817, 6.0


def estimate(y: Array, keep: Array | None = None) -> Array:
    r"""The standard deviation of white noise, from the median of the finest differences.

    Immerkær's differences d of a 3 x 3 neighbourhood, second differences along rows and columns,
    vanish on planes and on straight horizontal and vertical edges; Donoho's median ignores the
    minority of places where the image itself varies.

    $$
    \hat\sigma = \frac{\mathrm{median}_{ijc}\, |d_{ijc}|}{6\, \Phi^{-1}(3/4)}, \qquad
    d = y * \begin{pmatrix} 1 & -2 & 1 \\ -2 & 4 & -2 \\ 1 & -2 & 1 \end{pmatrix}
    $$

    It is the noise of y in y's own units: of the small image where A downsamples, of the blurred
    one where A blurs. What counts as noise is what varies from pixel to pixel: textures raise the
    estimate, and more so in a downsampled image; noise that a blur, JPEG or a rescaling has
    smoothed is underestimated, and so is noise that was clipped at black or white. Handwritten
    digits of 8 x 8 pixels in −1..1, nothing but strokes, read 0.26 without noise, 0.59 at 0.5 and
    1.05 at 1.

    Args:
      y: observations [B, H, W, C], of 3 x 3 pixels at least.
      keep: the mask by which y was observed, [H, W] or [H, W, C], 1 where observed: differences
        that reach into what is hidden do not count. None: everything was observed.

    Returns:
      [B]; NaN where no 3 x 3 pixels are observed together.

    Raises:
      ValueError: where y is no such array, or the mask has another size.

    References:
      Immerkær, "Fast Noise Variance Estimation" (Computer Vision and Image Understanding, 1996).
      Donoho & Johnstone, "Ideal Spatial Adaptation by Wavelet Shrinkage" (Biometrika, 1994).
    """
    check_floats(y=y)
    if y.ndim != 4 or min(y.shape[1:3]) < 3:
        raise ValueError(f"y must be [B, H, W, C] of 3 x 3 pixels at least, not {y.shape}")
    d = jnp.abs(jnp.diff(jnp.diff(y, n=2, axis=1), n=2, axis=2))
    if keep is not None:
        m = jnp.asarray(keep) != 0
        m = m[..., None] if m.ndim == 2 else m
        if m.ndim != 3 or m.shape[:2] != y.shape[1:3] or m.shape[2] not in (1, y.shape[3]):
            raise ValueError(f"the mask has shape {m.shape}, but y is {y.shape}")
        rows = m[2:] & m[1:-1] & m[:-2]
        d = jnp.where((rows[:, 2:] & rows[:, 1:-1] & rows[:, :-2])[None], d, jnp.nan)
    return jnp.nanmedian(d.reshape(len(d), -1), axis=1) / (_WEIGHT * _NORMAL_MEDIAN)
