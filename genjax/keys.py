"""Random numbers from one PRNG key, or from one key per example.

With one key per example, example i's numbers depend on key i alone, so that they are the same
however a batch is divided over devices or chunks. Imports jax alone: copy it along with a loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def is_single(key: Array) -> bool:
    """Whether a key is one key rather than one per example.

    Args:
      key: a typed key (`jax.random.key`) or raw key data (`jax.random.PRNGKey`), or a batch [B] of
        either.

    Returns:
      True for one key, False for a batch of keys.

    Raises:
      TypeError: where it is no key, such as a seed.
    """
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and (dtype != jnp.uint32 or not key.ndim):
        raise TypeError(f"key must be a PRNG key, such as jax.random.key(0), not {key!r}")
    return key.ndim == (0 if typed else 1)


def check_batch(key: Array, batch: int) -> None:
    """Checks that there is one key, or one per example.

    Args:
      key: one key, or one per example.
      batch: number of examples B.

    Raises:
      ValueError: for a batch of keys of another length than `batch`.
    """
    if not is_single(key) and key.shape[0] != batch:
        raise ValueError(f"give one key, or one per example: {key.shape[0]} keys for {batch}")


def split(key: Array, n: int, batch: int | None = None) -> tuple[Array, ...]:
    """`jax.random.split` of one key, or of each example's.

    Args:
      key: one key, or one per example [B].
      n: number of keys to make of each.
      batch: number of examples; None to accept any number of keys.

    Returns:
      n keys, each like `key`.

    Raises:
      ValueError: for a batch of keys of another length than `batch`.
    """
    if batch is not None:
        check_batch(key, batch)
    if is_single(key):
        return tuple(jax.random.split(key, n))
    parts = jax.vmap(lambda one: jax.random.split(one, n))(key)
    return tuple(parts[:, i] for i in range(n))


def fold_in(key: Array, data: int | Array) -> Array:
    """`jax.random.fold_in` of one key, or of each example's with the same number.

    Args:
      key: one key, or one per example [B].
      data: an integer, a scalar.

    Returns:
      The key or keys, like `key`.
    """
    if is_single(key):
        return jax.random.fold_in(key, data)
    return jax.vmap(jax.random.fold_in, (0, None))(key, data)


def per_example(key: Array, count: int, first: int | Array = 0) -> Array:
    """One key per example, each a function of one key and the example's index alone.

    Args:
      key: one key.
      count: number of examples.
      first: index of the first of them.

    Returns:
      Keys [count], of the examples `first`, `first` + 1, …
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def draw(sample: Callable[..., Array], key: Array, shape: tuple[int, ...]) -> Array:
    """Random numbers of a shape [B, ...], row by row where there is one key per example.

    Args:
      sample: (key, shape) -> array of that shape.
      key: one key, or one per example [B].
      shape: of the result, (B, ...).

    Returns:
      sample(key, shape), or row i from sample(key[i], shape[1:]).

    Raises:
      ValueError: for a batch of keys of another length than B.
    """
    if is_single(key):
        return sample(key, shape)
    check_batch(key, shape[0])
    return jax.vmap(lambda one: sample(one, shape[1:]))(key)


def normal(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """N(0, 1) of a shape [B, ...].

    Args:
      key: one key, or one per example [B].
      shape: of the result, (B, ...).
      dtype: of the result.

    Returns:
      Independent standard normal numbers.

    Raises:
      ValueError: for a batch of keys of another length than B.
    """
    return draw(lambda k, s: jax.random.normal(k, s, dtype), key, shape)


def uniform(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """U[0, 1) of a shape [B, ...].

    Args:
      key: one key, or one per example [B].
      shape: of the result, (B, ...).
      dtype: of the result.

    Returns:
      Independent uniform numbers.

    Raises:
      ValueError: for a batch of keys of another length than B.
    """
    return draw(lambda k, s: jax.random.uniform(k, s, dtype), key, shape)


def uniform_times(key: Array, n: int) -> Array:
    """t ~ U(0, 1), never 0 nor 1, where a schedule's log-SNR may be infinite.

    Args:
      key: one key, or one per example [n].
      n: number of times.

    Returns:
      [n], float32.

    Raises:
      ValueError: for a batch of keys of another length than n.
    """
    # Draws are multiples of 2⁻²³; half a cell more keeps them inside and centred.
    return uniform(key, (n,), jnp.float32) + 2.0**-24


# EDM's schedule goes on beyond both ends of its time, and log-normal levels reach there.
_EARLIEST, _LATEST = -1.0, 2.0


def check_times(times: Any, name: str = "times") -> Array:
    """Checks that times are those of a schedule, and not numbers of steps.

    Args:
      times: any shape.
      name: for the message.

    Returns:
      The same times, in float32 at least. Where they are traced, so that no error can be raised,
      times far outside 0..1 become NaN.

    Raises:
      TypeError: where they are no numbers, but a function, say.
      ValueError: where they are integers other than 0 and 1, or lie far outside 0..1.
    """
    if callable(times) or isinstance(times, str) or times is None:
        raise TypeError(f"{name} must be an array of floats in 0..1, not {times!r}")
    hint = "divide step numbers by the number of steps"
    if isinstance(times, jax.core.Tracer):
        if not jnp.issubdtype(times.dtype, jnp.floating):
            raise ValueError(f"{name} must be floats in 0..1, got {times.dtype}: {hint}")
        return jnp.where((times < _EARLIEST) | (times > _LATEST), jnp.nan, times)
    # Under jit too, what is known can be looked at.
    with jax.ensure_compile_time_eval():
        t = jnp.asarray(times)
        if not jnp.issubdtype(t.dtype, jnp.floating):
            if not bool(((t == 0) | (t == 1)).all()):
                raise ValueError(f"{name} must be floats in 0..1, got {t.dtype}: {hint}")
            return t.astype(float)
        if bool(((t < _EARLIEST) | (t > _LATEST)).any()):
            raise ValueError(f"{name} must lie in 0..1, got {t.min()} to {t.max()}: {hint}")
        return t


def _called(times: Any, key: Array, n: int) -> Any:
    if isinstance(times, type):
        raise TypeError(
            f"times must be an instance, not the class {times.__name__}: give {times.__name__}(...)"
        )
    return times(key, n) if callable(times) else times


def draw_times(times: Array | Callable[[Array, int], Array], key: Array, x: Array) -> Array:
    """The time of each example, as it is or from a sampler.

    Args:
      times: t [B], or times(key, n) -> t [n].
      key: one key, or one per example [B].
      x: the batch [B, ...].

    Returns:
      t, [B].

    Raises:
      TypeError: where the times are a class or no numbers.
      ValueError: where the times are not [B], or not in 0..1 (see `check_times`).
    """
    t = check_times(_called(times, key, x.shape[0]))
    if t.shape != x.shape[:1]:
        raise ValueError(f"times must be [B]: got {t.shape} for x {x.shape}")
    return t


def draw_time_pairs(
    times: tuple[Array, Array] | Callable[[Array, int], tuple[Array, Array]], key: Array, x: Array
) -> tuple[Array, Array]:
    """Two times per example, as they are or from a sampler.

    Args:
      times: a pair of [B], or times(key, n) -> a pair of [n].
      key: one key, or one per example [B].
      x: the batch [B, ...].

    Returns:
      The two times, each [B].

    Raises:
      TypeError: where the times are a class or no pair of numbers.
      ValueError: where either is not [B] or not in 0..1 (see `check_times`), or the first is
        greater than the second.
    """
    pair = _called(times, key, x.shape[0])
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"times must be a pair of arrays, the lesser first, not {pair!r}")
    s, t = map(check_times, pair)
    if not s.shape == t.shape == x.shape[:1]:
        raise ValueError(f"times must be two arrays [B]: {s.shape}, {t.shape} for x {x.shape}")
    if isinstance(s, jax.core.Tracer) or isinstance(t, jax.core.Tracer):
        return s, jnp.where(s > t, jnp.nan, t)
    with jax.ensure_compile_time_eval():
        if bool((s > t).any()):
            raise ValueError("times must be two arrays, the lesser first: swap them")
    return s, t
