"""Two-dimensional convolutions with the arguments and values of lax's, faster on the CPU."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive

from genjax.models.trilinear import Geometry, Pair, convolve_p, spread_p

Padding = Literal["SAME", "VALID"] | Sequence[Pair]
_FEW = 16  # groups


def conv(
    x: jax.Array, kernel: jax.Array, *, stride: Pair = (1, 1), padding: Padding = "SAME"
) -> jax.Array:
    r"""Convolution: lax.conv_general_dilated with the layouts NHWC and HWIO.

    $$
    y_{b,o,d} = \sum_{i,c} x_{b,\, s o + i - p,\, c}\; k_{i,c,d}
    $$

    with p zeros before the first row and column.

    Args:
      x: images, [B, H, W, C].
      kernel: [kh, kw, C, D].
      stride: s, of rows and columns.
      padding: "SAME", "VALID", or the zeros (before, after) of rows and columns; negative crops.

    Returns:
      [B, H', W', D].

    Raises:
      ValueError: for arrays of other shapes or of two dtypes.
    """
    _check(x, kernel)
    size, window = x.shape[1:3], kernel.shape[:2]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(size, window, stride, padding)
    y = [
        (n + lo + hi - k) // s + 1
        for n, k, s, (lo, hi) in zip(size, window, stride, padding, strict=True)
    ]
    return _form(convolve_p, x, kernel, size, window, y, stride, [lo for lo, _ in padding])


def conv_transpose(
    x: jax.Array, kernel: jax.Array, *, stride: Pair = (1, 1), padding: Padding = "SAME"
) -> jax.Array:
    """Transposed convolution: lax.conv_transpose with the layouts NHWC and HWIO.

    The convolution of x dilated with stride − 1 zeros between its pixels.

    Args:
      x: images, [B, H, W, C].
      kernel: [kh, kw, C, D].
      stride: of rows and columns.
      padding: "SAME", "VALID", or the zeros (before, after) of the dilated rows and columns.

    Returns:
      [B, H', W', D], with H' = H·stride for "SAME".

    Raises:
      ValueError: for arrays of other shapes or of two dtypes.
    """
    _check(x, kernel)
    size, window = x.shape[1:3], kernel.shape[:2]
    if isinstance(padding, str):
        padding = [_transposed(k, s, padding) for k, s in zip(window, stride, strict=True)]
    out = [
        (n - 1) * s + 2 + lo + hi - k
        for n, k, s, (lo, hi) in zip(size, window, stride, padding, strict=True)
    ]
    before = [k - 1 - lo for k, (lo, _) in zip(window, padding, strict=True)]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _form(spread_p, x, turned, out, window, size, stride, before)


def conv_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling by 2, then a "SAME" convolution, as one operation.

    The two are one transposed convolution of stride 2, whose kernel is the given one summed over
    2x2 windows: 4/9 of the work for a 3x3 kernel.

    Args:
      x: images, [B, H, W, C].
      kernel: [kh, kw, C, D], of odd sides.

    Returns:
      [B, 2H, 2W, D].

    Raises:
      ValueError: where a side of the kernel is even.
    """
    (kh, kw), (h, w) = kernel.shape[:2], x.shape[1:3]
    if not (kh % 2 and kw % 2):
        raise ValueError(f"conv_upsampled needs an odd kernel, not {(kh, kw)}")
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    edge = ((0, 0), (0, 0))
    turned = jnp.pad(turned, ((0, 1), (0, 0), *edge)) + jnp.pad(turned, ((1, 0), (0, 0), *edge))
    turned = jnp.pad(turned, ((0, 0), (0, 1), *edge)) + jnp.pad(turned, ((0, 0), (1, 0), *edge))
    size, before = (2 * h, 2 * w), (kh // 2, kw // 2)
    return _form(spread_p, x, turned, size, (kh + 1, kw + 1), (h, w), (2, 2), before)


def conv_grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    r"""A "SAME" convolution of stride 1 in which each group of channels sees itself alone.

    $$
    y_{b,o,g,d} = \sum_{i,c} x_{b,\, o + i - p,\, g,\, c}\; k_{i,c,g,d}
    $$

    with the channels of group g next to each other.

    Args:
      x: images, [B, H, W, C].
      kernel: [kh, kw, C / groups, D], D a multiple of the groups.

    Returns:
      [B, H, W, D].

    Raises:
      ValueError: for arrays of other shapes.
    """
    own, d = kernel.shape[2:]
    groups = x.shape[-1] // own
    if x.ndim != 4 or not groups or x.shape[-1] % own or d % groups:
        raise ValueError(
            f"groups of {own} channels do not divide x {x.shape} and kernel {kernel.shape}"
        )
    # XLA's gradients of grouped convolutions take up to 50 times as long on the CPU as a
    # convolution per group does, which is much to compile for many groups.
    if groups == 1 or (groups <= _FEW and jax.default_backend() == "cpu"):
        pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([conv(*pair) for pair in pairs], -1)
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=axes, feature_group_count=groups
    )


def _check(x: jax.Array, kernel: jax.Array) -> None:
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"convolution needs x [B, H, W, C] and kernel [kh, kw, C, D], "
            f"not {x.shape} and {kernel.shape}"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"convolution needs one dtype, not {x.dtype} and {kernel.dtype}")


def _transposed(k: int, s: int, padding: str) -> Pair:
    """The padding of the dilated image that lax.conv_transpose means by its two names."""
    if padding == "SAME":
        total = k + s - 2
        lo = k - 1 if s > k - 1 else -(-total // 2)
    elif padding == "VALID":
        total = k + s - 2 + max(k - s, 0)
        lo = k - 1
    else:
        raise ValueError(f'padding is "SAME", "VALID" or pairs of integers, not {padding!r}')
    return lo, total - lo


def _form(primitive: Primitive, a: jax.Array, b: jax.Array, *sizes: Sequence[int]) -> jax.Array:
    return primitive.bind(a, b, geometry=Geometry(*((s[0], s[1]) for s in sizes)))
