"""The Vendi score: how many different examples a set holds, effectively."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from genjax.evaluate.estimate import Estimate, blocks, checked, fold_bounds, linearized


def vendi(samples: np.ndarray) -> Estimate:
    r"""The Vendi score of a set of features with the cosine kernel, with its interval.

    $$
    \exp\Bigl(-\sum_i \lambda_i \log \lambda_i\Bigr), \qquad
    \lambda = \operatorname{eig}\Bigl(\frac1n \hat X \hat X^{\mathsf T}\Bigr)
    $$

    with the rows of X̂ of length 1. It is 1 where all examples are equal and n where all are
    orthogonal, and it grows with n. It needs no reference, and so rewards noise as well: what a
    data set of this kind has is the same score of as many real images.

    The eigenvalues are those of X̂ᵀX̂/n, [d, d], where that is the smaller matrix: memory does not
    grow with n. The jackknife recomputes them without each fold, but for over ten times as many
    examples as features, where the derivative −(1 + log) of the entropy does as well at a fraction
    of the time; with fewer that would be too narrow.

    Args:
      samples: in random order, [n, d].

    Returns:
      The score, 1 to n.

    Raises:
      ValueError: where there are too few, one is 0, or they hold NaN.

    References:
      Friedman & Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning"
      (2022), arXiv:2210.02410.
    """
    x = checked(samples, "samples")
    folds = fold_bounds(len(x))
    if len(x) < x.shape[1]:
        unit = _unit(x)
        similar = unit @ unit.T
        rest = (np.delete(np.arange(len(x)), slice(a, b)) for a, b in folds)
        parts = (similar[np.ix_(rows, rows)] / len(rows) for rows in rest)
        return _estimate(similar / len(x), parts)
    total = _gram(x)
    if len(x) > 10 * x.shape[1]:
        return _first_order(x, total / len(x))
    without = ((total - _gram(x[a:b])) / (len(x) - (b - a)) for a, b in folds)
    return _estimate(total / len(x), without)


def _estimate(everything: np.ndarray, without: Iterable[np.ndarray]) -> Estimate:
    replicates = np.array([_exponential_entropy(each) for each in without])
    return Estimate(_exponential_entropy(everything), (replicates,))


def _first_order(x: np.ndarray, mean: np.ndarray) -> Estimate:
    values, vectors = np.linalg.eigh(mean)
    inside = values > 1e-12 * values[-1]
    values, vectors = values[inside], vectors[:, inside]
    entropy = -(values * np.log(values)).sum()
    influence = np.empty(len(x))
    for a, b in blocks(len(x)):
        influence[a:b] = -((_unit(x[a:b]) @ vectors) ** 2) @ np.log(values)
    return Estimate(float(np.exp(entropy)), (np.exp(entropy + linearized(influence)),))


def _exponential_entropy(matrix: np.ndarray) -> float:
    values = np.linalg.eigvalsh(matrix)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def _gram(x: np.ndarray) -> np.ndarray:
    total = np.zeros((x.shape[1],) * 2)
    for a, b in blocks(len(x)):
        unit = _unit(x[a:b])
        total += unit.T @ unit
    return total


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("the features of an example are all 0: the cosine kernel has no value")
    return x / lengths
