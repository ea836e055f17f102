"""Functions with kernels of their own on an NVIDIA GPU, and derivatives of any order and mode.

A plain function defines the values, and computes them on every other platform. On a GPU the value
and its gradient are a kernel each; what no kernel is written for, derivatives in forward mode and
those of higher order, is derived from the plain function.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import jax
from jax import Array
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir


@functools.cache
def on_nvidia() -> bool:
    """Whether this process computes on NVIDIA GPUs for which such kernels exist.

    Elsewhere a caller spares itself the detour: the values would be the plain function's.

    Returns:
      True from compute capability 8.0 on.
    """
    if jax.default_backend() != "gpu":
        return False
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))
    return capability.replace(".", "", 1).isdigit() and float(capability) >= 8


def with_kernels(
    name: str, plain: Callable[..., Array], forward: Callable[..., Array], backward: Callable
) -> Callable[..., Array]:
    """A function that runs kernels where it is compiled for one NVIDIA GPU.

    Args:
      name: of the operation.
      plain: (*arrays, settings) -> an array of the first one's shape and dtype.
      forward: the same, by a kernel.
      backward: (*arrays, cotangent of the result, settings) -> the cotangents of all arrays, by a
        kernel.

    Returns:
      A function of the arrays and, by name, the settings, which are hashable.
    """

    def push_forward(*arrays: Array, settings: Hashable) -> Array:
        half = len(arrays) // 2
        return jax.jvp(partial(plain, settings=settings), arrays[:half], arrays[half:])[1]

    def pull_back(*arrays: Array, settings: Hashable) -> list[Array]:
        *primals, cotangent = arrays
        return list(jax.vjp(partial(plain, settings=settings), *primals)[1](cotangent))

    value = _primitive(name, plain)
    tangent = _primitive(f"{name}_tangent", push_forward)
    gradient = _primitive(f"{name}_gradient", pull_back, multiple_results=True)

    def call(*arrays: Array, settings: Hashable) -> Array:
        kernel = _traced(forward, arrays, settings)
        return value.bind(*arrays, settings=settings, kernel=kernel)

    def differentiate(primals: Any, tangents: Any, *, settings: Hashable, kernel: Any) -> Any:
        tangents = map(ad.instantiate_zeros, tangents)
        y = value.bind(*primals, settings=settings, kernel=kernel)
        return y, tangent.bind(*primals, *tangents, settings=settings, kernel=None)

    def transpose(cotangent: Any, *arrays: Any, settings: Hashable, kernel: Any) -> list[Any]:
        primals = arrays[: len(arrays) // 2]
        operands = (*primals, ad.instantiate_zeros(cotangent))
        kernel = _traced(backward, operands, settings)
        cotangents = gradient.bind(*operands, settings=settings, kernel=kernel)
        return [None] * len(primals) + cotangents

    ad.primitive_jvps[value] = differentiate
    ad.primitive_transposes[tangent] = transpose
    for primitive, function in ((tangent, push_forward), (gradient, pull_back)):
        ad.primitive_jvps[primitive] = partial(_derived, function)
    return call


def _traced(kernel: Callable, arrays: Sequence[Any], settings: Hashable) -> Any:
    # A part of the operation, where jax looks for what must know its devices when it is compiled.
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
    return jax.make_jaxpr(partial(kernel, settings=settings))(*shapes)


def _derived(
    function: Callable, primals: Any, tangents: Any, *, settings: Hashable, kernel: Any
) -> Any:
    tangents = tuple(map(ad.instantiate_zeros, tangents))
    return jax.jvp(partial(function, settings=settings), tuple(primals), tangents)


def _primitive(name: str, plain: Callable, *, multiple_results: bool = False) -> Primitive:
    """A primitive that is computed by its kernel on one NVIDIA GPU, elsewhere by `plain`.

    Its result is like its first operand; several results are like all operands but the last.
    """
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results

    @primitive.def_abstract_eval
    def _(*operands: Any, settings: Hashable, kernel: Any) -> Any:
        return list(operands[:-1]) if multiple_results else operands[0]

    def compute(*arrays: Array, settings: Hashable, kernel: Any) -> Any:
        return primitive.bind(*arrays, settings=settings, kernel=kernel)

    primitive.def_impl(jax.jit(compute, static_argnames=("settings", "kernel")))

    def by_definition(*arrays: Array, settings: Hashable, kernel: Any) -> Any:
        return plain(*arrays, settings=settings)

    def by_kernel(*arrays: Array, settings: Hashable, kernel: Any) -> Any:
        results = jaxpr_as_fun(kernel)(*arrays)
        return results if multiple_results else results[0]

    def for_cuda(ctx: Any, *operands: Any, settings: Hashable, kernel: Any) -> Any:
        function = by_kernel if kernel is not None and _one_device(ctx) else by_definition
        lower = mlir.lower_fun(function, multiple_results)
        return lower(ctx, *operands, settings=settings, kernel=kernel)

    mlir.register_lowering(primitive, mlir.lower_fun(by_definition, multiple_results))
    mlir.register_lowering(primitive, for_cuda, platform="cuda")

    @partial(batching.primitive_batchers.__setitem__, primitive)
    def _(operands: Any, axes: Any, *, settings: Hashable, kernel: Any) -> Any:
        out = jax.vmap(partial(plain, settings=settings), axes)(*operands)
        return out, [0] * len(out) if multiple_results else 0

    return primitive


def _one_device(ctx: Any) -> bool:
    """Whether the program is for one device, or for each of several on its own.

    XLA may gather the arrays of a kernel on each of the devices that share them.
    """
    context = ctx.module_context.axis_context
    if manual := getattr(context, "manual_axes", None):
        return set(manual) == set(context.mesh.axis_names)
    return getattr(context, "num_devices", 1) == 1
