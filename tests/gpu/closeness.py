"""How far results of two devices or precisions lie apart."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np


@contextmanager
def computing_on(place: jax.Device) -> Iterator[None]:
    """Computes there; on a CPU without the compiler's optimizer, which takes half of the time."""
    quick = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", place.platform == "cpu")
    try:
        with jax.default_device(place):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", quick)


def host(tree):
    return jax.tree.map(np.asarray, tree)


def distance(found, expected):
    """‖found − expected‖ / ‖expected‖ over all numbers of two trees; NaN where anything is."""
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    size = np.sqrt(sum(np.sum(b**2) for _, b in pairs))
    return float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs)) / size)


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if np.issubdtype(np.asarray(x).dtype, np.floating)]
