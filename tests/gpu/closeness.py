"""How far results of two devices or precisions lie apart."""

import jax
import numpy as np


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
