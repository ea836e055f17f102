"""Arithmetic and checks of arguments that losses and samplers share.

Imports jax alone: copy it along with a loss.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def widen(a: ArrayLike) -> Array:
    """An array in float32 at least: sums and exponentials in bfloat16 would lose accuracy.

    Args:
      a: any array.

    Returns:
      The same numbers, in float32 or the wider type they had.
    """
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def expand(scale: ArrayLike, like: Array) -> Array:
    """One number per example, shaped to multiply a batch.

    Args:
      scale: a scalar, or [B].
      like: the batch [B, ...].

    Returns:
      `scale` with trailing axes of length 1, one for each further axis of `like`.

    Raises:
      ValueError: where `scale` is neither a scalar nor one number per example.
    """
    scale = jnp.asarray(scale)
    if scale.ndim and scale.shape != like.shape[: scale.ndim]:
        raise ValueError(f"give a scalar or one per example: {scale.shape} for {like.shape}")
    return scale.reshape(scale.shape + (1,) * (like.ndim - scale.ndim))


def sum_per_example(values: Array) -> Array:
    """Sums over all axes but the first.

    Args:
      values: [B, ...].

    Returns:
      [B].
    """
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def kl_to_standard_normal(mean: Array, std: ArrayLike) -> Array:
    r"""The Kullback-Leibler divergence from N(mean, std²) to N(0, 1), elementwise.

    $$
    \tfrac12 \left( \mu^2 + \sigma^2 - 1 - \ln \sigma^2 \right)
    $$

    It keeps its digits where std is near 1.

    Args:
      mean: any shape.
      std: positive, broadcast against `mean`.

    Returns:
      Nats, like `mean`.
    """
    excess = (std - 1) * (std + 1)
    return 0.5 * (mean**2 + excess - jnp.log1p(excess))


def exp_with_tangent(a: Array, limit: float = 30) -> Array:
    """e^a, and above a limit its tangent there, e^limit·(1 + a − limit).

    Args:
      a: any array.
      limit: where the tangent begins.

    Returns:
      Finite numbers, with a finite gradient that still points back, where e^a would overflow.
    """
    return jnp.exp(jnp.minimum(a, limit)) * (1 + jnp.maximum(a - limit, 0))


def check_same_shape(**arrays: Array) -> None:
    """Checks that two named arrays have one shape.

    Args:
      **arrays: two arrays, by the names that the message gives them.

    Raises:
      ValueError: where their shapes differ.
    """
    (a, p), (b, q) = arrays.items()
    if p.shape != q.shape:
        raise ValueError(f"give {a} and {b} one shape: {a} has {p.shape}, {b} has {q.shape}")


def check_floats(**arrays: Array) -> None:
    """Checks that named arrays are batches of floats; all that take images or codes call it.

    Arithmetic in the dtype of integers would truncate noise, and networks would see bytes.

    Args:
      **arrays: by the names that the message gives them.

    Raises:
      ValueError: where one holds integers, or has no axis for the batch.
    """
    for name, a in arrays.items():
        dtype, shape = jnp.result_type(a), jnp.shape(a)
        if not jnp.issubdtype(dtype, jnp.floating) or not shape:
            raise ValueError(
                f"{name} must be floats [B, ...], got {dtype} {shape}: "
                "scale integers to floats and give a batch"
            )


def check_prediction(prediction: Any, x: Array) -> None:
    """Checks that a network returned an array of x's shape.

    Args:
      prediction: what `predict` returned.
      x: the batch [B, ...].

    Raises:
      ValueError: where it did not.
    """
    found = getattr(prediction, "shape", type(prediction).__name__)
    if found != x.shape:
        raise ValueError(f"predict must return x's shape {x.shape}, got {found}")


def check_has(methods: str, example: str, **values: Any) -> None:
    """Checks that named values have methods: an object, and not a name or a class.

    Args:
      methods: their names, with spaces between.
      example: what may be given instead, for the message.
      **values: by the names that the message gives them.

    Raises:
      TypeError: where one is a class, or lacks a method.
    """
    for name, value in values.items():
        if isinstance(value, type):
            raise TypeError(
                f"{name} must be an instance, such as {example}, not the class {value.__name__}: "
                f"give {value.__name__}(...)"
            )
        if not all(hasattr(value, method) for method in methods.split()):
            raise TypeError(f"{name} must be an object such as {example}, not {value!r}")


def check_no_function(**values: Any) -> None:
    """Checks that what named functions returned is no function again.

    Args:
      **values: results, by the names of the functions.

    Raises:
      TypeError: where one is a function: what makes the argument was given in its place.
    """
    for name, value in values.items():
        if callable(value):
            raise TypeError(
                f"{name} returned a function in place of an array: call it once before you give "
                f"it as {name}, as in weightings.min_snr() or thresholding.dynamic()"
            )


def is_traced(*values: Any) -> bool:
    """Whether a value is known at run time alone, as under `jax.jit`.

    Args:
      *values: any.

    Returns:
      True where one is traced.
    """
    return any(isinstance(value, jax.core.Tracer) for value in values)


def check_static(**values: Any) -> None:
    """Checks that named values are known when a program is traced, as what shapes depend on is.

    Args:
      **values: by the names that the message gives them.

    Raises:
      TypeError: where one is traced.
    """
    for name, value in values.items():
        if is_traced(value):
            raise TypeError(
                f"{name} must be a Python number, as shapes or loops depend on it, not a traced "
                "value: mark it as static in jax.jit"
            )


def math_of(*values: Any) -> Any:
    """Where to take functions of scalars from: float64 and no array, wherever that is possible.

    Args:
      *values: the scalars.

    Returns:
      The module `math`, or `jax.numpy` where one of them is traced.
    """
    return jnp if is_traced(*values) else math
