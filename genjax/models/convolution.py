"""Two-dimensional convolution as one trilinear form, with algorithms of its own on the CPU.

For images x [B, H, W, C], y [B, H', W', D] and a kernel k [kh, kw, C, D], the number

    T(x, k, y) = Σ x[b, s o + i − lo, c] k[i, c, d] y[b, o, d]      over b, o, i, c, d

is linear in each of the three, and its three partial derivatives are all that convolution, its
transpose and every gradient of theirs, of any order, forward or reverse, consist of:

    ∂T/∂y = convolve(x, k)      ∂T/∂x = spread(y, k)      ∂T/∂k = correlate(x, y)

So there are three primitives, each one's derivatives are the other two, and a platform's way to
compute them is chosen in one place, when a program is lowered. XLA's own is kept on GPU and TPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = tuple[int, int]
Padding = Literal["SAME", "VALID"] | Sequence[Pair]
AXES = ("NHWC", "HWIO", "NHWC")


@dataclass(frozen=True)
class Geometry:
    """The sizes of one trilinear form: of x's image, of the kernel and of y's image."""

    x: Pair
    kernel: Pair
    y: Pair
    stride: Pair
    before: Pair  # lo: the zeros before x's first row and column; negative crops

    @property
    def padding(self) -> tuple[Pair, Pair]:
        """The zeros before and after x that make y's size exact; negative crops."""
        span = (
            ((m - 1) * s + k, n, lo)
            for n, k, m, s, lo in zip(
                self.x, self.kernel, self.y, self.stride, self.before, strict=True
            )
        )
        rows, columns = ((lo, covered - n - lo) for covered, n, lo in span)
        return rows, columns


def conv(
    x: jax.Array, kernel: jax.Array, *, stride: Pair = (1, 1), padding: Padding = "SAME"
) -> jax.Array:
    """Σᵢ x[b, s o + i − lo, c] k[i, c, d]: what lax.conv_general_dilated gives, NHWC and HWIO.

    x [B, H, W, C], kernel [kh, kw, C, D] -> [B, H', W', D].
    """
    _check(x, kernel)
    size, window = x.shape[1:3], kernel.shape[:2]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(size, window, stride, padding)
    y = [
        (n + lo + hi - k) // s + 1
        for n, k, s, (lo, hi) in zip(size, window, stride, padding, strict=True)
    ]
    return _bind(_convolve, x, kernel, size, window, y, stride, [lo for lo, _ in padding])


def conv_transpose(
    x: jax.Array, kernel: jax.Array, *, stride: Pair = (1, 1), padding: Padding = "SAME"
) -> jax.Array:
    """What lax.conv_transpose gives: the convolution of x spread out with stride − 1 zeros between.

    x [B, H, W, C], kernel [kh, kw, C, D] -> [B, H', W', D], with H' = H·stride for "SAME".
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
    return _bind(_spread, x, turned, out, window, size, stride, before)


def conv_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """conv(x with every pixel doubled, kernel), "SAME", for odd kernels, in 4/9 of the work at 3x3.

    Doubling pixels and convolving is one transposed convolution of stride 2, with the kernel
    summed over 2x2 windows. x [B, H, W, C], kernel [kh, kw, C, D] -> [B, 2H, 2W, D].
    """
    (kh, kw), (h, w) = kernel.shape[:2], x.shape[1:3]
    if not (kh % 2 and kw % 2):
        raise ValueError(f"conv_upsampled needs an odd kernel, not {(kh, kw)}")
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    edge = ((0, 0), (0, 0))
    turned = jnp.pad(turned, ((0, 1), (0, 0), *edge)) + jnp.pad(turned, ((1, 0), (0, 0), *edge))
    turned = jnp.pad(turned, ((0, 0), (0, 1), *edge)) + jnp.pad(turned, ((0, 0), (1, 0), *edge))
    size, before = (2 * h, 2 * w), (kh // 2, kw // 2)
    return _bind(_spread, x, turned, size, (kh + 1, kw + 1), (h, w), (2, 2), before)


def _check(x: jax.Array, kernel: jax.Array) -> None:
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"convolution needs x [B, H, W, C] and kernel [kh, kw, C, D], "
            f"not {x.shape} and {kernel.shape}"
        )


def _transposed(k: int, s: int, padding: str) -> Pair:
    """The padding of the spread-out image for which lax.conv_transpose's two names stand."""
    if padding == "SAME":
        total = k + s - 2
        lo = k - 1 if s > k - 1 else -(-total // 2)
    elif padding == "VALID":
        total = k + s - 2 + max(k - s, 0)
        lo = k - 1
    else:
        raise ValueError(f'padding is "SAME", "VALID" or pairs of integers, not {padding!r}')
    return lo, total - lo


def _bind(primitive: Primitive, a: jax.Array, b: jax.Array, *sizes: Sequence[int]) -> jax.Array:
    return primitive.bind(a, b, geometry=Geometry(*((s[0], s[1]) for s in sizes)))


# XLA's own way, for every platform that has no other.


def _convolve_native(x: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    return lax.conv_general_dilated(x, k, geometry.stride, geometry.padding, dimension_numbers=AXES)


def _spread_native(y: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    x = jax.ShapeDtypeStruct((y.shape[0], *geometry.x, k.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _convolve_native(x, k, geometry), x)(y)[0]


def _correlate_native(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    k = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[3], y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _convolve_native(x, k, geometry), k)(y)[0]


# The CPU's ways.


def _pointwise(geometry: Geometry) -> bool:
    return geometry.kernel == geometry.stride == (1, 1) and geometry.before == (0, 0)


def _convolve_cpu(x: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    if _pointwise(geometry):
        return lax.dot_general(x, k[0, 0], (((3,), (0,)), ((), ())))
    return _convolve_native(x, k, geometry)


def _spread_cpu(y: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    if _pointwise(geometry):
        return lax.dot_general(y, k[0, 0], (((3,), (1,)), ((), ())))
    # Interleaving costs more than the zeros save where a pixel has few channels.
    if geometry.stride == (1, 1) or k.shape[2] < 16:
        return _spread_native(y, k, geometry)
    return _spread_by_phases(y, k, geometry)


def _spread_by_phases(y: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    """x at every stride-th row and column sees every stride-th tap: a plain convolution each.

    XLA multiplies by the zeros between y's pixels instead, with the CPU's slowest kernel.
    """
    (sh, sw), (h, w) = geometry.stride, geometry.x
    rows, columns = (
        [_phase(geometry, axis, start) for start in range(geometry.stride[axis])] for axis in (0, 1)
    )

    def phase(row: tuple[int, int, int], column: tuple[int, int, int]) -> jax.Array:
        taps = k[row[0] :: sh, column[0] :: sw][::-1, ::-1].swapaxes(2, 3)
        if not taps.size:
            return jnp.zeros((y.shape[0], row[1], column[1], k.shape[2]), y.dtype)
        padding = [
            (n - 1 - first, length + first - m)
            for n, m, (_, length, first) in zip(
                taps.shape[:2], geometry.y, (row, column), strict=True
            )
        ]
        return lax.conv_general_dilated(y, taps, (1, 1), padding, dimension_numbers=AXES)

    lines = [jnp.stack([phase(r, c) for c in columns], axis=3) for r in rows]
    x = jnp.stack(lines, axis=2)  # [B, H/sh, sh, W/sw, sw, C]
    b, m, _, n, _, c = x.shape
    return x.reshape(b, m * sh, n * sw, c)[:, :h, :w]


def _phase(geometry: Geometry, axis: int, start: int) -> tuple[int, int, int]:
    """For the pixels start, start + s, … of x: their first tap, how many, the first's last y."""
    s, lo = geometry.stride[axis], geometry.before[axis]
    length = -(-geometry.x[axis] // s)
    return (start + lo) % s, length, (start + lo) // s


def _correlate_cpu(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    if _pointwise(geometry):
        pixels = (0, 1, 2)
        return lax.dot_general(x, y, ((pixels, pixels), ((), ())))[None, None]
    # The first operand is transposed as a whole, which is cheaper for the one of fewer channels.
    if geometry.stride == (1, 1) and y.shape[3] < x.shape[3]:
        return _correlate_swapped(x, y, geometry)
    return _correlate_native(x, y, geometry)


def _correlate_swapped(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """The same sum with x as the kernel that slides over y, which finds the taps in reverse."""
    padding = [
        (k - 1 - lo, n + lo - m)
        for n, k, m, lo in zip(
            geometry.x, geometry.kernel, geometry.y, geometry.before, strict=True
        )
    ]
    k = lax.conv_general_dilated(y, x, (1, 1), padding, dimension_numbers=("CHWN", "IHWO", "HWNC"))
    return k[::-1, ::-1].swapaxes(2, 3)


def _primitive(name: str, native: Callable, cpu: Callable, shape: Callable) -> Primitive:
    """A primitive of two arrays that is computed by `native`, or on the CPU by `cpu`."""
    primitive = Primitive(name)

    @primitive.def_abstract_eval
    def _(a, b, *, geometry):
        return a.update(shape=shape(a, b, geometry))

    primitive.def_impl(
        jax.jit(lambda a, b, geometry: primitive.bind(a, b, geometry=geometry), static_argnums=2)
    )
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")

    @partial(batching.primitive_batchers.__setitem__, primitive)
    def _(operands, axes, *, geometry):
        a, b = operands
        if axes[1] is None and primitive is not _correlate:
            a = jnp.moveaxis(a, axes[0], 0)
            out = primitive.bind(a.reshape(-1, *a.shape[2:]), b, geometry=geometry)
            return out.reshape(*a.shape[:2], *out.shape[1:]), 0
        # A kernel for each example is a grouped convolution, which XLA has.
        return jax.vmap(partial(native, geometry=geometry), axes)(a, b), 0

    return primitive


_convolve = _primitive(
    "convolve",
    _convolve_native,
    _convolve_cpu,
    lambda x, k, g: (x.shape[0], *g.y, k.shape[3]),
)
_spread = _primitive(
    "spread",
    _spread_native,
    _spread_cpu,
    lambda y, k, g: (y.shape[0], *g.x, k.shape[2]),
)
_correlate = _primitive(
    "correlate",
    _correlate_native,
    _correlate_cpu,
    lambda x, y, g: (*g.kernel, x.shape[3], y.shape[3]),
)

ad.defbilinear(
    _convolve,
    lambda dy, x, k, geometry: _spread.bind(dy, k, geometry=geometry),
    lambda dy, x, k, geometry: _correlate.bind(x, dy, geometry=geometry),
)
ad.defbilinear(
    _spread,
    lambda dx, y, k, geometry: _convolve.bind(dx, k, geometry=geometry),
    lambda dx, y, k, geometry: _correlate.bind(dx, y, geometry=geometry),
)
ad.defbilinear(
    _correlate,
    lambda dk, x, y, geometry: _spread.bind(y, dk, geometry=geometry),
    lambda dk, x, y, geometry: _convolve.bind(x, dk, geometry=geometry),
)
