"""One batch on several devices: split by pmap, or sharded under jit."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax import keys


def on_devices(f: Callable[..., Any], devices: int, layout: str, *arrays: jax.Array) -> Any:
    """f(*arrays [B, ...]) with the batch over devices; a single key is the same on all of them.

    layout is "pmap" or "jit"; results are arrays [B, ...] either way.
    """
    shared = [is_key(a) and keys.is_single(a) for a in arrays]
    if layout == "jit":
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        specs = [PartitionSpec() if s else PartitionSpec("data") for s in shared]
        placed = [
            jax.device_put(a, NamedSharding(mesh, spec))
            for a, spec in zip(arrays, specs, strict=True)
        ]
        return jax.jit(f)(*placed)
    parts = [
        a if s else a.reshape(devices, -1, *a.shape[1:])
        for a, s in zip(arrays, shared, strict=True)
    ]
    split = jax.pmap(
        f,
        axis_name="data",
        in_axes=tuple(None if s else 0 for s in shared),
        devices=jax.devices()[:devices],
    )
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), split(*parts))


def is_key(array: jax.Array) -> bool:
    return jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key) or array.dtype == np.uint32
