"""Means, sums and rows of the global batch, also where a mapped axis has split it over devices.

Every function takes an axis name and uses it only where such an axis is mapped (pmap, shard_map,
vmap). Elsewhere, on one device or under `jax.jit` with sharded
arrays, the array at hand is the global batch already. So one spelling is right everywhere. Imports
jax alone: copy it along with a loss.
"""

from typing import Any

import jax
from jax import Array, lax

DATA_AXIS = "data"


def is_mapped(axis_name: str | None) -> bool:
    """Whether an axis of that name is mapped where this is called.

    Args:
      axis_name: the name; None is never mapped.

    Returns:
      True under a transformation that maps such an axis.
    """
    if axis_name is None:
        return False
    try:
        lax.axis_size(axis_name)
    except NameError:
        return False
    return True


def shards(axis_name: str | None = DATA_AXIS) -> int:
    """The number of equal shares that a mapped axis has split the batch into.

    Args:
      axis_name: the axis that splits the batch.

    Returns:
      The size of the axis, 1 where none is mapped.
    """
    return lax.axis_size(axis_name) if is_mapped(axis_name) else 1


def mean(tree: Any, axis_name: str | None = DATA_AXIS) -> Any:
    """Means over devices of what each computed as a mean over its equal share of the batch.

    Args:
      tree: arrays.
      axis_name: the axis that splits the batch.

    Returns:
      The tree of means over the axis, or `tree` itself where none is mapped.
    """
    return lax.pmean(tree, axis_name) if is_mapped(axis_name) else tree


def total(tree: Any, axis_name: str | None = DATA_AXIS) -> Any:
    """Sums over devices of what each computed as a sum over its share of the batch.

    Args:
      tree: arrays.
      axis_name: the axis that splits the batch.

    Returns:
      The tree of sums over the axis, or `tree` itself where none is mapped.
    """
    return lax.psum(tree, axis_name) if is_mapped(axis_name) else tree


def gather(rows: Array, axis_name: str | None = DATA_AXIS) -> Array:
    """The rows of the global batch, in the order of the global example index.

    Args:
      rows: this device's share, [B / devices, ...]; typed PRNG keys too.
      axis_name: the axis that splits the batch.

    Returns:
      [B, ...], or `rows` itself where none is mapped.
    """
    if not is_mapped(axis_name):
        return rows
    if jax.dtypes.issubdtype(rows.dtype, jax.dtypes.prng_key):
        raw = lax.all_gather(jax.random.key_data(rows), axis_name, tiled=True)
        return jax.random.wrap_key_data(raw, impl=jax.random.key_impl(rows))
    return lax.all_gather(rows, axis_name, tiled=True)


def own_rows(whole: Array, count: int, axis_name: str | None = DATA_AXIS) -> Array:
    """This device's rows of an array over the global batch: what `gather` put together.

    Args:
      whole: [B, ...].
      count: rows of this device, B / devices.
      axis_name: the axis that splits the batch.

    Returns:
      [count, ...], or `whole` itself where none is mapped.
    """
    if not is_mapped(axis_name):
        return whole
    return lax.dynamic_slice_in_dim(whole, lax.axis_index(axis_name) * count, count)
