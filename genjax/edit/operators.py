r"""Operators of inverse problems: masks, downsampling, blur, grey, clipping, JPEG, any callable.

Each is a value of [`Operator`][genjax.edit.operator.Operator] for images of one shape (H, W, C).
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax

from genjax.edit.jpeg import compressed
from genjax.edit.operator import Operator
from genjax.numerics import is_traced

Boundary = Literal["reflect", "symmetric", "edge", "wrap", "constant"]
"""What lies beyond the border, in `jnp.pad`'s words: dcb|abcd, cba|abcd, aaa|abcd, bcd|abcd, 0."""


def _sides(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (H, W, C) of one image, not {tuple(shape)}")
    height, width, channels = shape
    return height, width, channels


def mask(shape: Sequence[int], keep: Array) -> Operator:
    r"""Hides pixels: inpainting.

    $$
    y = m \odot x, \qquad A A^\top r = r
    $$

    y is shaped like x and 0 where x is hidden, noise there included.

    Args:
      shape: (H, W, C).
      keep: m, [H, W] or [H, W, C], true or 1 where the image is observed.

    Returns:
      The operator. It can be built under `jax.jit` or `jax.vmap` too, without the checks of what
      `keep` holds.

    Raises:
      ValueError: where `keep` has another size, other values than 0 and 1, or hides nothing or all.
    """
    sides = _sides(shape)
    keep = jnp.asarray(keep)
    m = keep[..., None] if keep.ndim == 2 else keep
    if m.ndim != 3 or m.shape[:2] != sides[:2] or m.shape[2] not in (1, sides[2]):
        raise ValueError(f"the mask has shape {keep.shape}, but the images are {sides}")
    if not is_traced(m):
        with jax.ensure_compile_time_eval():
            if bool(((m != 0) & (m != 1)).any()):
                raise ValueError("a mask holds 0 (hidden) and 1 (observed): compare grey levels")
            if bool((m == 1).all()):
                raise ValueError("nothing is masked: the mask observes every pixel")
            if bool((m == 0).all()):
                raise ValueError("everything is masked: the mask observes no pixel")
    m = jnp.broadcast_to(m, sides) != 0
    return Operator(lambda x: x * m.astype(x.dtype)[None], sides, gram=1.0)


def box(
    shape: Sequence[int],
    top: int | Array,
    left: int | Array,
    height: int | Array,
    width: int | Array,
) -> Operator:
    """Hides a rectangle.

    Args:
      shape: (H, W, C).
      top: its first row.
      left: its first column.
      height: its number of rows.
      width: its number of columns.

    Returns:
      The `mask`.

    Raises:
      ValueError: where the rectangle is empty, all of the image, or not inside it.
    """
    rows, columns, _ = _sides(shape)
    if not is_traced(top, left, height, width) and (
        min(top, left) < 0
        or min(height, width) < 1
        or top + height > rows
        or left + width > columns
    ):
        raise ValueError(
            f"a box of {height} x {width} at row {top}, column {left} is not inside an image of "
            f"{rows} x {columns}"
        )
    i, j = jnp.arange(rows)[:, None], jnp.arange(columns)[None]
    inside = (i >= top) & (i < top + height) & (j >= left) & (j < left + width)
    return mask(shape, ~inside)


def random_box(
    shape: Sequence[int], key: Array, *, smallest: float = 0.25, largest: float = 0.75
) -> Operator:
    """Hides a rectangle of random sides and place, for training and for evaluations.

    Args:
      shape: (H, W, C).
      key: one PRNG key.
      smallest: share of the image's height and width that is hidden at least, above 0.
      largest: share that is hidden at most, below 1.

    Returns:
      The `mask`.

    Raises:
      ValueError: unless 0 < smallest ≤ largest < 1.
    """
    rows, columns, _ = _sides(shape)
    if not 0 < smallest <= largest < 1:
        raise ValueError(f"a box needs 0 < smallest <= largest < 1, not {smallest} and {largest}")
    sides, places = jax.random.uniform(key, (2, 2))
    size = jnp.array([rows, columns])
    least = jnp.maximum(1, jnp.ceil(smallest * size))
    most = jnp.maximum(least, jnp.floor(largest * size))
    extent = (least + jnp.floor(sides * (most - least + 1))).astype(int)
    start = jnp.floor(places * (size - extent + 1)).astype(int)
    return box(shape, start[0], start[1], extent[0], extent[1])


def random_mask(shape: Sequence[int], key: Array, hidden: float = 0.5) -> Operator:
    """Hides random pixels, in all their channels.

    Args:
      shape: (H, W, C).
      key: one PRNG key.
      hidden: share of the pixels that are hidden, rounded to a number of pixels.

    Returns:
      The `mask`.

    Raises:
      ValueError: where that number is 0 or all of the pixels.
    """
    rows, columns, _ = _sides(shape)
    count = round(hidden * rows * columns)
    if not 0 < count < rows * columns:
        raise ValueError(f"hidden {hidden} of {rows} x {columns} pixels hides {count} of them")
    order = jax.random.permutation(key, rows * columns)
    return mask(shape, (order >= count).reshape(rows, columns))


def outpainting(
    shape: Sequence[int], *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0
) -> Operator:
    """Hides rows and columns at the borders; right=W // 2 hides the right half.

    Args:
      shape: (H, W, C).
      top: rows hidden at the top.
      bottom: rows hidden at the bottom.
      left: columns hidden at the left.
      right: columns hidden at the right.

    Returns:
      The `mask`.

    Raises:
      ValueError: where one is negative, none is above 0, or nothing remains.
    """
    rows, columns, _ = _sides(shape)
    if min(top, bottom, left, right) < 0 or top + bottom >= rows or left + right >= columns:
        raise ValueError(
            f"borders of {top}, {bottom} rows and {left}, {right} columns leave nothing of an "
            f"image of {rows} x {columns}, or are negative"
        )
    inner = jnp.ones((rows - top - bottom, columns - left - right), bool)
    return mask(shape, jnp.pad(inner, ((top, bottom), (left, right))))


def _separable(
    shape: tuple[int, int, int], rows: Array, columns: Array, gram: float | None = None
) -> Operator:
    """R x Cᵀ for each channel, with rows R [h, H] and columns C [w, W]."""

    def apply(x: Array) -> Array:
        r, c = rows.astype(x.dtype), columns.astype(x.dtype)
        return jnp.einsum("hi,bijc,wj->bhwc", r, x, c, precision=lax.Precision.HIGHEST)

    return Operator(apply, shape, gram=gram)


def _divisible(shape: Sequence[int], factor: int) -> tuple[int, int, int]:
    sides = _sides(shape)
    if factor < 2:
        raise ValueError(f"factor must be 2 or more, such as 2, 4 or 8, not {factor}")
    if sides[0] % factor or sides[1] % factor:
        raise ValueError(
            f"an image of {sides[0]} x {sides[1]} is not divisible by {factor}: crop it first"
        )
    return sides


def downsample_area(shape: Sequence[int], factor: int) -> Operator:
    r"""The means of blocks of f x f pixels, f = `factor`: super-resolution.

    $$
    y_{ij} = \frac{1}{f^2} \sum_{a,b=0}^{f-1} x_{fi+a,\,fj+b}, \qquad A A^\top = f^{-2} I
    $$

    Args:
      shape: (H, W, C).
      factor: f, such as 2, 4 or 8.

    Returns:
      The operator, to [B, H/f, W/f, C].

    Raises:
      ValueError: where f is below 2 or does not divide both sides.
    """
    sides = _divisible(shape, factor)
    rows, columns = (jnp.repeat(jnp.eye(n // factor), factor, axis=1) / factor for n in sides[:2])
    return _separable(sides, rows, columns, gram=factor**-2)


def downsample_bicubic(shape: Sequence[int], factor: int) -> Operator:
    r"""Antialiased bicubic downsampling, as PIL's: super-resolution.

    $$
    y_i = \sum_j \frac{k(u_{ij})}{\sum_l k(u_{il})}\, x_j, \qquad
    u_{ij} = \frac{j + \frac12}{f} - i - \frac12
    $$

    along rows and columns, with Keys' kernel of a = −1/2. Beyond the border there is nothing: the
    weights inside are normalized to 1.

    $$
    k(u) = \begin{cases}
    \frac32 |u|^3 - \frac52 |u|^2 + 1 & |u| \le 1 \\
    -\frac12 |u|^3 + \frac52 |u|^2 - 4 |u| + 2 & 1 < |u| < 2
    \end{cases}
    $$

    Args:
      shape: (H, W, C).
      factor: f, such as 2, 4 or 8.

    Returns:
      The operator, to [B, H/f, W/f, C].

    Raises:
      ValueError: where f is below 2 or does not divide both sides.

    References:
      Keys, "Cubic Convolution Interpolation for Digital Image Processing" (IEEE TASSP, 1981).
    """
    sides = _divisible(shape, factor)
    rows, columns = (
        jax.image.resize(jnp.eye(n), (n // factor, n), "cubic", antialias=True) for n in sides[:2]
    )
    return _separable(sides, rows, columns)


def _check_fits(sides: tuple[int, int, int], size: Sequence[int], boundary: Boundary) -> None:
    if boundary not in get_args(Boundary):
        raise ValueError(f"boundary must be one of {get_args(Boundary)}, not {boundary!r}")
    if any(n // 2 >= side for n, side in zip(size, sides, strict=False)):
        raise ValueError(
            f"a kernel of {size[0]} x {size[1]} reaches beyond an image of {sides[0]} x {sides[1]} "
            "on both sides: take a smaller one"
        )


def blur(shape: Sequence[int], kernel: Array, *, boundary: Boundary = "reflect") -> Operator:
    r"""Convolution of every channel with a kernel k: deblurring.

    $$
    y_{ij} = \sum_{a,b} k_{ab}\, x_{i-a,\,j-b}
    $$

    with a and b counted from the middle of the kernel. The kernel is used as it is: a blur that
    keeps brightness has a sum of 1.

    Args:
      shape: (H, W, C).
      kernel: k, [h, w], both odd.
      boundary: what lies beyond the border.

    Returns:
      The operator, to images of the same shape.

    Raises:
      ValueError: where the kernel is no matrix of odd sides, is too large or not finite, or there
        is no such boundary.
    """
    sides, k = _sides(shape), jnp.asarray(kernel, float)
    if k.ndim != 2 or not (k.shape[0] % 2 and k.shape[1] % 2):
        raise ValueError(f"a kernel is a matrix of odd sides, not of shape {k.shape}")
    _check_fits(sides, k.shape, boundary)
    if not is_traced(k):
        with jax.ensure_compile_time_eval():
            if not bool(jnp.isfinite(k).all() & k.any()):
                raise ValueError("a kernel holds finite numbers that are not all 0")
    reach = [(n // 2, n // 2) for n in k.shape]
    weights = k[::-1, ::-1, None, None]  # what lax calls a convolution does not mirror

    def apply(x: Array) -> Array:
        planes = jnp.moveaxis(x, 3, 1).reshape(-1, *sides[:2], 1)
        blurred = lax.conv_general_dilated(
            jnp.pad(planes, ((0, 0), *reach, (0, 0)), boundary),
            weights.astype(x.dtype),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        return jnp.moveaxis(blurred.reshape(-1, sides[2], *sides[:2]), 1, 3)

    return Operator(apply, sides)


def gaussian_blur(
    shape: Sequence[int], std: float, *, truncate: float = 4.0, boundary: Boundary = "reflect"
) -> Operator:
    r"""Convolution with a Gaussian, along rows and columns: deblurring.

    $$
    k_a \propto e^{-a^2 / 2 \sigma^2}, \qquad |a| \le \lfloor t\,\sigma + \tfrac12 \rfloor
    $$

    Args:
      shape: (H, W, C).
      std: σ in pixels.
      truncate: t; 4 as in `scipy.ndimage`.
      boundary: what lies beyond the border.

    Returns:
      The operator, to images of the same shape.

    Raises:
      ValueError: where σ is so small that nothing is blurred or so large that the kernel reaches
        beyond the image, or there is no such boundary.
    """
    sides = _sides(shape)
    if not math.isfinite(std) or not (reach := int(truncate * max(std, 0) + 0.5)):
        raise ValueError(f"std {std} blurs nothing: give it in pixels, such as 1.5")
    _check_fits(sides, (2 * reach + 1, 2 * reach + 1), boundary)
    k = jnp.exp(-(jnp.arange(-reach, reach + 1.0) ** 2) / (2 * std**2))

    def matrix(n: int) -> Array:
        padded = jnp.pad(jnp.eye(n), ((reach, reach), (0, 0)), boundary)
        return sum(w * padded[a : a + n] for a, w in enumerate(k / k.sum()))

    return _separable(sides, matrix(sides[0]), matrix(sides[1]))


def motion_blur(
    shape: Sequence[int], length: float, angle: float = 0.0, *, boundary: Boundary = "reflect"
) -> Operator:
    r"""Convolution with a segment, the path of a camera during the exposure: deblurring.

    $$
    k_{ab} \propto \max(0,\, 1 - d_{ab})
    $$

    where d is the distance of a pixel's centre from the segment, in pixels.

    Args:
      shape: (H, W, C).
      length: pixels along the path, above 1: the segment is `length` − 1 long.
      angle: degrees, counterclockwise from the horizontal.
      boundary: what lies beyond the border.

    Returns:
      The operator, to images of the same shape.

    Raises:
      ValueError: where `length` is 1 or less or reaches beyond the image, or there is no such
        boundary.
    """
    if not (math.isfinite(length) and length > 1):
        raise ValueError(f"length {length} blurs nothing: give it in pixels, above 1")
    half, turn = (length - 1) / 2, math.radians(angle)
    reach = math.ceil(half)
    _check_fits(_sides(shape), (2 * reach + 1, 2 * reach + 1), boundary)
    down, right = jnp.meshgrid(*2 * [jnp.arange(-reach, reach + 1.0)], indexing="ij")
    along = right * math.cos(turn) - down * math.sin(turn)
    across = right * math.sin(turn) + down * math.cos(turn)
    k = jnp.maximum(0, 1 - jnp.hypot(across, along - along.clip(-half, half)))
    return blur(shape, k / k.sum(), boundary=boundary)


def grey(shape: Sequence[int], weights: Sequence[float] = (0.299, 0.587, 0.114)) -> Operator:
    r"""A weighted sum of the channels: colourization.

    $$
    y = \sum_c w_c\, x_c, \qquad A A^\top = \|w\|^2 I
    $$

    Args:
      shape: (H, W, C).
      weights: w; by default those of luma, as in PIL's "L"; (1/3, 1/3, 1/3) for the mean.

    Returns:
      The operator, to [B, H, W, 1].

    Raises:
      ValueError: where the images have one channel, or there is another number of weights.

    References:
      ITU-R Recommendation BT.601.
    """
    sides = _sides(shape)
    if sides[2] == 1:
        raise ValueError(f"images of shape {sides} are grey already: colourization needs colours")
    if len(weights) != sides[2] or not any(weights):
        raise ValueError(f"grey needs one weight per channel, {sides[2]}, not {tuple(weights)}")
    w = jnp.asarray(weights, float)

    def apply(x: Array) -> Array:
        return jnp.tensordot(x, w.astype(x.dtype), 1, precision=lax.Precision.HIGHEST)[..., None]

    return Operator(apply, sides, gram=sum(float(each) ** 2 for each in weights))


def linear(
    apply: Callable[[Array], Array], shape: Sequence[int], gram: float | None = None
) -> Operator:
    """An operator of your own, whose adjoint `jax.linear_transpose` finds.

    Args:
      apply: x [B, *shape] -> A x [B, ...], each example on its own; jittable and linear.
      shape: of one x.
      gram: c where A Aᵀ r = c r for every r in the range of A; None where that does not hold.

    Returns:
      The operator.

    Raises:
      ValueError: where `apply` is not linear, or what it returns has another number of examples.
    """
    operator = Operator(apply, tuple(shape), gram=gram)
    x = jnp.zeros((2, *operator.shape))
    y = apply(x)
    if y.ndim < 1 or y.shape[0] != 2:
        raise ValueError(f"the operator turns 2 images into {y.shape}: one result per image")
    try:
        jax.eval_shape(operator.adjoint, y)
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"the operator is not linear, or has no transpose: {why}") from error
    # Transposing drops a constant: x -> A x + b would be taken for A.
    if not is_traced(y) and bool((y != 0).any()):
        raise ValueError("the operator is not linear: it adds a constant, A 0 is not 0")
    return operator


def clipping(
    shape: Sequence[int], scale: float = 2.0, *, low: float = -1.0, high: float = 1.0
) -> Operator:
    r"""Overexposure: values beyond the range of a sensor are lost. Not linear.

    $$
    y = \min(\max(s\,x,\; l),\; h)
    $$

    Args:
      shape: (H, W, C).
      scale: s, how much too bright the image is.
      low: l, the least value that can be observed.
      high: h, the greatest.

    Returns:
      The operator, to images of the same shape.

    Raises:
      ValueError: unless low < high and scale is not 0.
    """
    if not low < high or not scale:
        raise ValueError(f"clipping needs low < high and a scale, not {low}, {high} and {scale}")
    return Operator(lambda x: (scale * x).clip(low, high), _sides(shape), linear=False)


def jpeg(
    shape: Sequence[int],
    quality: int,
    *,
    subsampling: bool = True,
    low: float = -1.0,
    high: float = 1.0,
) -> Operator:
    r"""What is left of an image after JPEG, differentiable. Not linear.

    The values that JPEG rounds get the gradient of the identity; see `jpeg.compressed`.

    Args:
      shape: (H, W, C) with one channel, grey, or three, RGB.
      quality: 1 to 100, as libjpeg and PIL define it.
      subsampling: whether colour differences are stored at half of the resolution (4:2:0).
      low: the value of black.
      high: the value of white.

    Returns:
      The operator, to images of the same shape.

    Raises:
      ValueError: where the quality is not in 1..100, there are neither one nor three channels, or
        low ≥ high.
    """
    sides = _sides(shape)
    if sides[2] not in (1, 3):
        raise ValueError(f"JPEG takes grey or RGB images, not {sides[2]} channels")
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG's quality is 1 to 100, not {quality}")
    if not low < high:
        raise ValueError(f"jpeg needs low < high, not {low} and {high}")
    unit = (high - low) / 255

    def apply(x: Array) -> Array:
        return low + unit * compressed((x - low) / unit, quality, subsampling)

    return Operator(apply, sides, linear=False)
