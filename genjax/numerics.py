"""Arithmetic that losses and samplers share. Imports jax alone: copy it along with a loss."""

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
