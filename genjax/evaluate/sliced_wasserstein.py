"""The sliced Wasserstein distance between two sets of images or features."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.evaluate.estimate import Estimate, checked, fold_bounds


def sliced_wasserstein(
    x: jax.Array, y: jax.Array, key: jax.Array, projections: int = 256
) -> jax.Array:
    r"""The sliced 2-Wasserstein distance between two sets of images, estimated.

    $$
    \sqrt{\mathbb{E}_\theta\, W_2^2(\theta \cdot x,\; \theta \cdot y)}
    $$

    over random directions θ; in one dimension the distance between two sets of n points is that of
    their sorted values, and between sets of different sizes that of their quantiles. The estimate
    is biased upwards, more so for small n: two samples of one distribution do not score 0, so
    report n and the score of real against real images.

    Args:
      x: the one set, [n, ...].
      y: the other, [m, ...], of the same shape but for m.
      key: one PRNG key, of the directions.
      projections: number of directions.

    Returns:
      A scalar, in the units of a single element (root mean square over elements).

    Raises:
      ValueError: where the shapes of an element differ.

    References:
      Rabin, Peyré, Delon & Bernot, "Wasserstein Barycenter and its Application to Texture Mixing"
      (SSVM 2011).
      Bonneel, Rabin, Peyré & Pfister, "Sliced and Radon Wasserstein Barycenters of Measures"
      (JMIV 2015).
    """
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"give sets of one shape: x has {x.shape}, y has {y.shape}")
    x, y = (a.reshape(a.shape[0], -1).astype(jnp.float32) for a in (x, y))
    directions = jax.random.normal(key, (x.shape[1], projections))
    # |θ| = √d, not 1: then the distance does not shrink with the number of pixels.
    directions *= jnp.sqrt(x.shape[1]) / jnp.linalg.norm(directions, axis=0, keepdims=True)
    x, y = jnp.sort(x @ directions, axis=0), jnp.sort(y @ directions, axis=0)
    if len(x) == len(y):
        return jnp.sqrt(jnp.mean((x - y) ** 2) / directions.shape[0])
    rows_x, rows_y, share = _paired_quantiles(len(x), len(y))
    gap = x[rows_x] - y[rows_y]
    return jnp.sqrt(share @ jnp.mean(gap**2, axis=1) / directions.shape[0])


def sliced_wasserstein_score(
    samples: np.ndarray, reference: np.ndarray, seed: int = 0, projections: int = 256
) -> Estimate:
    """The sliced Wasserstein distance between two sets of features, with its interval.

    The jackknife keeps the directions: it is the distance along these, and other directions change
    it by more where there are few.

    Args:
      samples: in random order, [n, d].
      reference: in random order, [m, d].
      seed: of the directions.
      projections: number of directions.

    Returns:
      The distance, as `sliced_wasserstein`.

    Raises:
      ValueError: where the sets do not fit each other, are too small, or hold NaN.
    """
    x, y = checked(samples, "samples"), checked(reference, "the reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"give sets of one shape: x has {x.shape}, y has {y.shape}")
    directions = np.random.default_rng(seed).normal(size=(x.shape[1], projections)).astype(x.dtype)
    directions /= np.linalg.norm(directions, axis=0)
    sets = [_Sorted(x @ directions), _Sorted(y @ directions)]
    replicates = [
        np.array([_distance(*(s.values(j if s is one else None) for s in sets)) for j in s_folds])
        for one, s_folds in ((s, range(len(s.folds))) for s in sets)
    ]
    return Estimate(_distance(*(s.values() for s in sets)), (replicates[0], replicates[1]))


class _Sorted:
    """Projections of a set in order, and what is left of them without a fold."""

    def __init__(self, projected: np.ndarray):
        self.folds = fold_bounds(len(projected))
        order = np.argsort(projected, axis=0)
        self.all = np.take_along_axis(projected, order, 0).T
        ends = np.array([end for _, end in self.folds])
        self.fold = np.searchsorted(ends, order.T, side="right")

    def values(self, without: int | None = None) -> np.ndarray:
        if without is None:
            return self.all
        return self.all[self.fold != without].reshape(len(self.all), -1)


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    """Of sorted projections [directions, n] and [directions, m]."""
    rows_x, rows_y, share = _paired_quantiles(x.shape[1], y.shape[1])
    squared = ((x[:, rows_x] - y[:, rows_y]) ** 2).mean(0, dtype=np.float64)
    return float(share @ squared) ** 0.5


def _paired_quantiles(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps of two quantile functions on their common grid: rows of each, and their shares."""
    grid = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # in units of 1/(n m), exact
    return grid[:-1] // m, grid[:-1] // n, np.diff(grid) / (n * m)
