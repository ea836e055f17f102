r"""Convolution, its transpose and their gradients as one trilinear form, lowered per platform.

For images x [B, H, W, C], y [B, H', W', D] and a kernel k [kh, kw, C, D], the number

$$
T(x, k, y) = \sum_{b,o,i,c,d} x_{b,\, s o + i - p,\, c}\; k_{i,c,d}\; y_{b,o,d}
$$

is linear in each of the three. Its three partial derivatives are all that convolution, its
transpose and all their gradients consist of, of any order, forward or reverse:

$$
\frac{\partial T}{\partial y} = \mathrm{convolve}(x, k), \qquad
\frac{\partial T}{\partial x} = \mathrm{spread}(y, k), \qquad
\frac{\partial T}{\partial k} = \mathrm{correlate}(x, y)
$$

So there are three primitives, the derivatives of each are the other two, and the implementation is
chosen per platform in one place, when a program is lowered: XLA's own on GPU and TPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = tuple[int, int]
AXES = ("NHWC", "HWIO", "NHWC")


@dataclass(frozen=True)
class Geometry:
    """The sizes of one trilinear form, of rows and columns.

    Attributes:
      x: size of the image x.
      kernel: size of the kernel.
      y: size of the image y.
      stride: s.
      before: p, the zeros before x's first row and column; negative crops.
    """

    x: Pair
    kernel: Pair
    y: Pair
    stride: Pair
    before: Pair

    @property
    def padding(self) -> tuple[Pair, Pair]:
        """The zeros (before, after) of x's rows and columns for y's size; negative crops."""
        sizes = zip(self.x, self.kernel, self.y, self.stride, self.before, strict=True)
        rows, columns = ((lo, (m - 1) * s + k - n - lo) for n, k, m, s, lo in sizes)
        return rows, columns


# XLA's own implementation, for every platform without another.


def _convolve_native(x: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    return lax.conv_general_dilated(x, k, geometry.stride, geometry.padding, dimension_numbers=AXES)


def _spread_native(y: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    x = jax.ShapeDtypeStruct((y.shape[0], *geometry.x, k.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _convolve_native(x, k, geometry), x)(y)[0]


def _correlate_native(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    k = jax.ShapeDtypeStruct((*geometry.kernel, x.shape[3], y.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _convolve_native(x, k, geometry), k)(y)[0]


# The implementation for the CPU.


def _pointwise(geometry: Geometry) -> bool:
    same_size = geometry.x == geometry.y and geometry.before == (0, 0)
    return same_size and geometry.kernel == geometry.stride == (1, 1)


def _convolve_cpu(x: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    if _pointwise(geometry):
        return lax.dot_general(x, k[0, 0], (((3,), (0,)), ((), ())))
    return _convolve_native(x, k, geometry)


def _spread_cpu(y: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    if _pointwise(geometry):
        return lax.dot_general(y, k[0, 0], (((3,), (1,)), ((), ())))
    # With few channels interleaving the phases costs more than skipping the zeros saves. Stride 1
    # is one phase, a convolution with the turned kernel: lax's own exchanges the kernel's axes,
    # which is many times slower inside a loop, where solvers take gradients.
    if geometry.stride != (1, 1) and k.shape[2] < 16:
        return _spread_native(y, k, geometry)
    return _spread_by_phases(y, k, geometry)


def _spread_by_phases(y: jax.Array, k: jax.Array, geometry: Geometry) -> jax.Array:
    """Splits x into its phases modulo the stride: each is a dense convolution with a sub-kernel.

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
    """For the pixels start, start + s, … of x: first tap, count, last y of the first pixel."""
    s, lo = geometry.stride[axis], geometry.before[axis]
    length = -(-geometry.x[axis] // s)
    return (start + lo) % s, length, (start + lo) // s


def _correlate_cpu(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    if _pointwise(geometry):
        pixels = (0, 1, 2)
        return lax.dot_general(x, y, ((pixels, pixels), ((), ())))[None, None]
    # XLA transposes the first operand, which is cheaper for the one with fewer channels.
    if geometry.stride == (1, 1) and y.shape[3] < x.shape[3]:
        return _correlate_swapped(x, y, geometry)
    return _correlate_native(x, y, geometry)


def _correlate_swapped(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    """The same sum with x as the kernel that slides over y, which yields the taps in reverse."""
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
    def _(a: Any, b: Any, *, geometry: Geometry) -> Any:
        return a.update(shape=shape(a, b, geometry))

    primitive.def_impl(
        jax.jit(lambda a, b, geometry: primitive.bind(a, b, geometry=geometry), static_argnums=2)
    )
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")

    @partial(batching.primitive_batchers.__setitem__, primitive)
    def _(operands: Any, axes: Any, *, geometry: Geometry) -> tuple[jax.Array, int]:
        a, b = operands
        if axes[1] is None and primitive is not correlate_p:
            a = jnp.moveaxis(a, axes[0], 0)
            out = primitive.bind(a.reshape(-1, *a.shape[2:]), b, geometry=geometry)
            return out.reshape(*a.shape[:2], *out.shape[1:]), 0
        # A kernel for each example is a grouped convolution, which XLA has.
        return jax.vmap(partial(native, geometry=geometry), axes)(a, b), 0

    return primitive


convolve_p = _primitive(
    "conv_forward",
    _convolve_native,
    _convolve_cpu,
    lambda x, k, g: (x.shape[0], *g.y, k.shape[3]),
)
spread_p = _primitive(
    "conv_transposed",
    _spread_native,
    _spread_cpu,
    lambda y, k, g: (y.shape[0], *g.x, k.shape[2]),
)
correlate_p = _primitive(
    "conv_kernel_gradient",
    _correlate_native,
    _correlate_cpu,
    lambda x, y, g: (*g.kernel, x.shape[3], y.shape[3]),
)

ad.defbilinear(
    convolve_p,
    lambda dy, x, k, geometry: spread_p.bind(dy, k, geometry=geometry),
    lambda dy, x, k, geometry: correlate_p.bind(x, dy, geometry=geometry),
)
ad.defbilinear(
    spread_p,
    lambda dx, y, k, geometry: convolve_p.bind(dx, k, geometry=geometry),
    lambda dx, y, k, geometry: correlate_p.bind(dx, y, geometry=geometry),
)
ad.defbilinear(
    correlate_p,
    lambda dk, x, y, geometry: spread_p.bind(y, dk, geometry=geometry),
    lambda dk, x, y, geometry: convolve_p.bind(x, dk, geometry=geometry),
)
