"""The kernel distance (squared maximum mean discrepancy) between two sets of features, unbiased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genjax.evaluate.estimate import FOLDS, Estimate, blocks, checked, fold_bounds

GROUP = 5000
"""Examples of a set that are compared with each other: larger sets fall into groups of these."""

_BLOCK = 2500  # rows and columns of kernel values at a time


@dataclass(frozen=True)
class Polynomial:
    r"""A polynomial of the inner product; the defaults are those of KID.

    $$
    k(x, y) = \left(\frac{\langle x, y\rangle}{d} + c\right)^{p}
    $$

    Attributes:
      degree: p.
      constant: c.

    References:
      Bińkowski et al., "Demystifying MMD GANs" (2018), arXiv:1801.01401, section 4.
    """

    degree: int = 3
    constant: float = 1.0

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The kernel between all pairs.

        Args:
          x: [n, d].
          y: [m, d].

        Returns:
          [n, m].
        """
        inner = x @ y.T
        inner /= x.shape[1]
        inner += self.constant
        power = inner.copy()
        for _ in range(self.degree - 1):
            power *= inner
        return power


@dataclass(frozen=True)
class Gaussian:
    r"""A Gaussian of the distance, which tells any two distributions apart.

    $$
    k(x, y) = \exp\left(-\frac{\lVert x - y\rVert^2}{2\sigma^2}\right)
    $$

    Attributes:
      bandwidth: σ, in the unit of the features. Values of different bandwidths do not compare;
        `median_distance` of the reference is a choice that depends on no model.

    References:
      Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012).
      Jayasumana et al., "Rethinking FID: Towards a Better Evaluation Metric for Image Generation"
      (2024), arXiv:2401.09603, which takes σ = 10 for features of CLIP, and 1,000 times the biased
      estimate.
    """

    bandwidth: float

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The kernel between all pairs.

        Args:
          x: [n, d].
          y: [m, d].

        Returns:
          [n, m].
        """
        distances = squared_distances(x, y)
        distances *= -0.5 / self.bandwidth**2
        return np.exp(distances, out=distances)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances between all pairs, by one product of matrices.

    Args:
      x: [n, d].
      y: [m, d].

    Returns:
      [n, m], at least 0.
    """
    centre = y.mean(0)  # far from 0 the difference of large squares would lose digits
    x, y = x - centre, y - centre
    found = x @ y.T
    found *= -2
    found += np.einsum("ij,ij->i", x, x)[:, None]
    found += np.einsum("ij,ij->i", y, y)[None]
    return np.maximum(found, 0, out=found)


def median_distance(features: np.ndarray, most: int = 1000) -> float:
    """The median distance between two examples, a bandwidth for `Gaussian`.

    Args:
      features: in random order, [n, d].
      most: examples to look at, the first of them.

    Returns:
      The median over all pairs of different examples.

    Raises:
      ValueError: where there are fewer than two, or over half of the pairs are equal.
    """
    x = checked(features, "features")[:most].astype(np.float64)
    rows, columns = np.triu_indices(len(x), 1)
    median = float(np.median(squared_distances(x, x)[rows, columns])) ** 0.5 if len(rows) else 0.0
    if not median > 0:
        raise ValueError("the median distance between examples is 0: give a bandwidth")
    return median


def kernel_distance(
    samples: np.ndarray,
    reference: np.ndarray,
    kernel: Callable[[np.ndarray, np.ndarray], np.ndarray] = Polynomial(),
) -> Estimate:
    r"""The unbiased kernel distance between two sets of features, with its interval.

    $$
    \frac{\sum_{i \ne j} k(x_i, x_j)}{n(n-1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m(m-1)}
    - \frac{2}{nm} \sum_{i, j} k(x_i, y_j)
    $$

    Its expectation is the same for every n and m, and 0 for equal distributions, so that single
    values are negative by chance. It is the distance for few images.

    All pairs are compared up to `GROUP` examples. Larger sets fall into G groups, sample group g is
    compared with reference group g, and the G distances are averaged: unbiased as well, at 1/G of
    the time. G is at most 20. Memory is that of 2,500 x 2,500 kernel values.

    The jackknife recomputes the distance without each fold exactly, from sums of the kernel over
    pairs of folds.

    Args:
      samples: in random order, [n, d].
      reference: in random order, [m, d].
      kernel: (x [n, d], y [m, d]) -> [n, m]: a `Polynomial`, as in KID, or a `Gaussian`.

    Returns:
      The squared distance; KID is often given as 1,000 times this.

    Raises:
      ValueError: where the sets do not fit each other, are too small, or hold NaN.

    References:
      Bińkowski et al., "Demystifying MMD GANs" (2018), arXiv:1801.01401, eq. 4.
    """
    x, y = checked(samples, "samples"), checked(reference, "the reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"samples have {x.shape[1]} features, the reference {y.shape[1]}: take one network"
        )
    groups = next((g for g in (1, 2, 4, 5, 10) if max(len(x), len(y)) <= g * GROUP), 20)
    size = FOLDS // groups
    bounds = [fold_bounds(len(z)) for z in (x, y)]
    # The distance does not depend on a constant added to the kernel; without its mean, sums of
    # millions of nearly equal values lose no digits.
    level = float(kernel(x[:200], y[:200]).mean(dtype=np.float64))
    found = []
    for g in range(groups):
        ours, theirs = (
            [z[a:b] for a, b in each[g * size : (g + 1) * size]]
            for z, each in zip((x, y), bounds, strict=True)
        )
        found.append(_Group(ours, theirs, kernel, level))
    value = _mean([each.distance() for each in found], [each.counts for each in found], 0)
    replicates = [
        np.array([_without(found, side, g, j) for g in range(groups) for j in range(size)])
        for side in (0, 1)
    ]
    return Estimate(value, (replicates[0], replicates[1]))


class _Group:
    """Sums of the kernel over all pairs of folds of a group, and distances from them."""

    def __init__(
        self,
        x: list[np.ndarray],
        y: list[np.ndarray],
        kernel: Callable[[np.ndarray, np.ndarray], np.ndarray],
        level: float,
    ):
        self.sizes = tuple(np.array([len(fold) for fold in folds]) for folds in (x, y))
        self.counts = tuple(int(size.sum()) for size in self.sizes)
        self.within = tuple(_within(folds, kernel, level) for folds in (x, y))
        self.between = np.array([[_sum(a, b, kernel, level) for b in y] for a in x])

    def distance(self, side: int | None = None, fold: int | None = None) -> float:
        """The distance; without a fold of samples (side 0) or the reference (1) where given."""
        keep = [np.ones(len(size), bool) for size in self.sizes]
        if side is not None:
            keep[side][fold] = False
        n, m = (int(size[kept].sum()) for size, kept in zip(self.sizes, keep, strict=True))
        own, other = (s[k][:, k].sum() for s, k in zip(self.within, keep, strict=True))
        cross = self.between[keep[0]][:, keep[1]].sum()
        return own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * cross / (n * m)


def _within(
    folds: list[np.ndarray], kernel: Callable[[np.ndarray, np.ndarray], np.ndarray], level: float
) -> np.ndarray:
    """Sums over the pairs of different examples, [k, k]; symmetric."""
    sums = np.zeros((len(folds), len(folds)))
    for i, a in enumerate(folds):
        for j, b in enumerate(folds[: i + 1]):
            sums[i, j] = sums[j, i] = _sum(a, b, kernel, level, same=i == j)
    return sums


def _sum(
    x: np.ndarray,
    y: np.ndarray,
    kernel: Callable[[np.ndarray, np.ndarray], np.ndarray],
    level: float,
    *,
    same: bool = False,
) -> float:
    """The sum of the kernel less the level, without the pairs of an example with itself."""
    total = 0.0
    for a, b in blocks(len(x), _BLOCK):
        for p, q in blocks(len(y), _BLOCK):
            values = kernel(x[a:b], y[p:q])
            if same and a == p:
                np.fill_diagonal(values, level)
            values -= values.dtype.type(level)
            total += float(values.sum(1, dtype=np.float64).sum())
    return total


def _without(groups: list[_Group], side: int, g: int, fold: int) -> float:
    """The mean over groups without a fold of one: groups count by their examples of that side."""
    rest = [each for i, each in enumerate(groups) if i != g]
    distances, counts = [e.distance() for e in rest], [list(e.counts) for e in rest]
    one = groups[g]
    left = one.counts[side] - int(one.sizes[side][fold])
    if left:  # else the fold was all that the group had of that side
        distances.append(one.distance(side, fold))
        counts.append([left, left])
    return _mean(distances, counts, side)


def _mean(distances: list[float], counts: list, side: int) -> float:
    weights = np.array([count[side] for count in counts], np.float64)
    return float(weights @ np.array(distances) / weights.sum())
