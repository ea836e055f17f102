"""Precision, recall, density and coverage of samples by balls around their nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from genjax.evaluate.estimate import Estimate, blocks, checked, fold_bounds
from genjax.evaluate.kernel_distance import squared_distances

_ROWS = 1000  # of a block of distances


def neighbour_scores(samples: np.ndarray, reference: np.ndarray, k: int = 5) -> dict[str, Estimate]:
    r"""Precision, recall, density and coverage, each with its interval.

    With B(y) the open ball around y whose radius is the distance to its k-th nearest neighbour in
    its own set:

    $$
    \begin{aligned}
    \text{precision} &= \tfrac1n \sum_i 1[x_i \in \textstyle\bigcup_j B(y_j)] &
    \text{recall} &= \tfrac1m \sum_j 1[y_j \in \textstyle\bigcup_i B(x_i)] \\
    \text{density} &= \tfrac1{kn} \sum_i \sum_j 1[x_i \in B(y_j)] &
    \text{coverage} &= \tfrac1m \sum_j 1[\exists i: x_i \in B(y_j)]
    \end{aligned}
    $$

    Precision and density are of quality, recall and coverage of variety. One outlier among the
    reference spoils precision by its large ball, and one among the samples recall: density and
    coverage are robust to both. All depend on n, m and k: real images do not score 1, so that only
    values of equal sizes compare. Density of real images is 1 in expectation, and no bound.

    The intervals are jackknives over folds that are recomputed exactly, radii included. A bootstrap
    would put duplicates at distance 0 into the sets, which shrinks the balls.

    The time grows as the square of n, memory does not: take at most 10,000 of each on a CPU.

    Args:
      samples: in random order, [n, d].
      reference: in random order, [m, d].
      k: which neighbour gives the radius; Kynkäänniemi et al. take 3, Naeem et al. 5.

    Returns:
      {"precision", "recall", "density", "coverage"}.

    Raises:
      ValueError: where the sets do not fit each other, are too small for k, or hold NaN.

    References:
      Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models"
      (2019), arXiv:1904.06991.
      Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models" (2020),
      arXiv:2002.09797.
    """
    x, y = checked(samples, "samples"), checked(reference, "the reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"samples have {x.shape[1]} features, the reference {y.shape[1]}: take one network"
        )
    least = min(len(x), len(y))
    if k < 1 or 2 * k > least:
        raise ValueError(f"k = {k} needs at least {2 * max(k, 1)} images per side, not {least}")
    folds_x, folds_y = fold_bounds(len(x)), fold_bounds(len(y))
    radii_x, radii_y = _radii(x, folds_x, k), _radii(y, folds_y, k)
    in_reference = np.empty((len(radii_y), len(x)), np.int64)  # balls of the reference around x
    in_samples = np.zeros((len(radii_x), len(y)), np.int64)
    nearest = np.full((len(folds_x), len(y)), np.inf, np.float32)  # to the samples of each fold
    for fold, (first, end) in enumerate(folds_x):
        for a, b in _blocks(first, end):
            distances = squared_distances(x[a:b], y)
            np.minimum(nearest[fold], distances.min(0), out=nearest[fold])
            for j, radii in enumerate(radii_y):
                in_reference[j, a:b] = np.count_nonzero(distances < radii, axis=1)
            for j, radii in enumerate(radii_x):
                in_samples[j] += np.count_nonzero(distances < radii[a:b, None], axis=0)
    to_samples = _without_each(nearest)
    return {
        "precision": _share(_estimate(in_reference > 0, folds_x, over_others=False), len(x)),
        "recall": _share(_estimate(in_samples > 0, folds_y, over_others=True), len(y)),
        "density": _estimate(in_reference / k, folds_x, over_others=False),
        "coverage": _share(_coverage(to_samples, radii_y, folds_y), len(y)),
    }


def _share(estimate: Estimate, n: int) -> Estimate:
    return replace(estimate, share_of=n)


def _blocks(first: int, end: int) -> Iterator[tuple[int, int]]:
    for a, b in blocks(end - first, _ROWS):
        yield first + a, first + b


def _radii(x: np.ndarray, folds: list[tuple[int, int]], k: int) -> np.ndarray:
    """Squared distances to the k-th neighbour without fold j, [folds + 1, n]; the last of all.

    An example has no ball where its own fold is missing: the radius is 0.
    """
    radii = np.empty((len(folds) + 1, len(x)), np.float32)
    for a, b in _blocks(0, len(x)):
        distances = squared_distances(x[a:b], x)
        distances[np.arange(b - a), np.arange(a, b)] = np.inf
        # Nearest in each fold: the k-th of all but one fold is among them.
        near = [np.partition(distances[:, p:q], min(k, q - p) - 1)[:, :k] for p, q in folds]
        for j in range(len(folds) + 1):
            rest = np.concatenate([each for i, each in enumerate(near) if i != j], axis=1)
            radii[j, a:b] = np.partition(rest, k - 1)[:, k - 1]
    for j, (p, q) in enumerate(folds):
        radii[j, p:q] = 0
    return radii


def _without_each(values: np.ndarray) -> np.ndarray:
    """Minima over all rows but one, and over all: [k, n] -> [k + 1, n]."""
    rows = [np.delete(values, j, 0).min(0) for j in range(len(values))]
    return np.stack([*rows, values.min(0)])


def _estimate(values: np.ndarray, folds: list[tuple[int, int]], *, over_others: bool) -> Estimate:
    """A mean over the examples of one set, whose values depend on folds of the other set.

    Args:
      values: [folds of the other set + 1, n], the last with all of them.
      folds: of the set that the mean is over.
      over_others: whether that set is the reference.
    """
    everything = values[-1].astype(np.float64)
    own = _means_without(everything, folds)
    other = values[:-1].mean(1, dtype=np.float64)
    return Estimate(float(everything.mean()), (other, own) if over_others else (own, other))


def _means_without(values: np.ndarray, folds: list[tuple[int, int]]) -> np.ndarray:
    total, n = values.sum(), len(values)
    return np.array([(total - values[p:q].sum()) / (n - (q - p)) for p, q in folds])


def _coverage(to_samples: np.ndarray, radii: np.ndarray, folds: list[tuple[int, int]]) -> Estimate:
    everything = to_samples[-1]
    samples = (to_samples[:-1] < radii[-1]).mean(1)
    reference = np.array(
        [np.delete(everything < radii[j], slice(p, q)).mean() for j, (p, q) in enumerate(folds)]
    )
    return Estimate(float((everything < radii[-1]).mean()), (samples, reference))
