"""The Fréchet distance between Gaussians fitted to two sets of features, and its limit for large n.

Constant memory beside the features: means and covariances are summed block by block, in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from genjax.evaluate.estimate import Estimate, blocks, checked, fold_bounds, linearized

_SPAN = 1e-10  # of the largest eigenvalue: what is below is rounding, no direction of the data


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter of a set of features; of two sets together by `+`.

    Attributes:
      n: examples.
      mean: float64 [d].
      scatter: Σ (x − mean)(x − mean)ᵀ, float64 [d, d].
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, scatter/(n − 1), [d, d]."""
        return self.scatter / (self.n - 1)

    def __add__(self, other: Moments) -> Moments:
        n, gap = self.n + other.n, other.mean - self.mean
        between = np.outer(gap, gap) * (self.n * other.n / n)
        mean = self.mean + gap * (other.n / n)
        return Moments(n, mean, self.scatter + other.scatter + between)


def moments(batches: Iterable[np.ndarray]) -> Moments:
    """Mean and scatter of features that come in batches, in constant memory.

    Each batch is centred on its own mean before its products are summed, so that a mean that is
    large against the deviations costs no digits.

    Args:
      batches: arrays [b, d].

    Returns:
      The moments.

    Raises:
      ValueError: where there are fewer than two examples.
    """
    total: Moments | None = None
    for batch in batches:
        x = np.asarray(batch, np.float64)
        if not len(x):
            continue
        mean = x.mean(0)
        x = x - mean
        part = Moments(len(x), mean, x.T @ x)
        total = part if total is None else total + part
    if total is None or total.n < 2:
        raise ValueError("a covariance needs two examples")
    return total


def moments_of(features: np.ndarray) -> Moments:
    """Mean and scatter of an array of features.

    Args:
      features: [n, d].

    Returns:
      The moments.
    """
    return moments(features[a:b] for a, b in blocks(len(features)))


def gaussian_distance(
    mean: np.ndarray, covariance: np.ndarray, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    r"""The squared 2-Wasserstein distance between two Gaussians, which is called Fréchet distance.

    $$
    \lVert\mu_1 - \mu_2\rVert^2 + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2
    - 2\,(\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}\bigr)
    $$

    The trace of the root is the sum of the roots of the eigenvalues of a symmetric matrix. The root
    of the product Σ₁Σ₂, which is not symmetric, is never taken: for singular covariances, of fewer
    examples than features, it does not converge.

    Args:
      mean: [d].
      covariance: [d, d].
      mean_2: [d].
      covariance_2: [d, d].

    Returns:
      The distance, at least 0 up to rounding.

    References:
      Dowson & Landau, "The Fréchet Distance between Multivariate Normal Distributions" (Journal of
      Multivariate Analysis, 1982).
      Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium" (2017), arXiv:1706.08500.
    """
    try:  # any root serves: the eigenvalues are the same
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:  # singular
        root = _root(covariance)[0]
    shared = np.linalg.eigvalsh(root.T @ covariance_2 @ root)
    return _distance(mean, covariance, mean_2, covariance_2, shared)


def frechet(samples: np.ndarray, reference: np.ndarray) -> Estimate:
    """The Fréchet distance between two sets of features, with its interval.

    It is biased upwards by about c/n, where c grows with the number of features: compare values of
    equal n alone, and see the same distance of real images. `frechet_limit` extrapolates.

    The interval is a jackknife to first order (infinitesimal): the gradient of the distance in
    Σ₁ is I − T, where T is the optimal map from the one Gaussian to the other, so that all folds
    cost one product of matrices in place of 40 decompositions. It equals the recomputed jackknife
    within a few percent, with fewer examples than features, too.

    Args:
      samples: in random order, [n, d].
      reference: in random order, [m, d].

    Returns:
      The distance.

    Raises:
      ValueError: where the sets do not fit each other, are too small, or hold NaN.
    """
    x, y = _pair(samples, reference)
    a, b = moments_of(x), moments_of(y)
    value, to_reference, to_samples = _with_maps(a, b)
    changes = (_changes(x, a, b, to_reference), _changes(y, b, a, to_samples))
    return Estimate(value, (value + changes[0], value + changes[1]))


def frechet_limit(samples: np.ndarray, reference: np.ndarray) -> Estimate:
    r"""The Fréchet distance extrapolated to infinitely many examples on both sides, FID-infinity.

    $$
    d(n) \approx d(\infty) + \frac{c}{n} \quad\Rightarrow\quad
    d(\infty) \approx 2\,d(n) - \tfrac12\bigl(d_1(n/2) + d_2(n/2)\bigr)
    $$

    with d₁ and d₂ of the two halves of both sets: the line in 1/n through n and n/2, where Chong &
    Forsyth fit one to random subsets. Disjoint halves use each example equally and vary no more.
    They extrapolate the samples alone, against a reference of fixed size whose own bias stays; here
    both shrink together.

    The next term, in 1/n², is small where n is many times the number of features; with fewer
    examples a bias remains that the interval does not cover.

    Args:
      samples: in random order, [n, d].
      reference: in random order, [m, d].

    Returns:
      The distance; below 0 by chance where the two distributions are equal.

    Raises:
      ValueError: where the sets do not fit each other, half of one has not more examples than
        features, or they hold NaN.

    References:
      Chong & Forsyth, "Effectively Unbiased FID and Inception Score and where to find them" (2020),
      arXiv:1911.07023.
      Quenouille, "Notes on Bias in Estimation" (Biometrika, 1956).
    """
    x, y = _pair(samples, reference)
    least, d = min(len(x), len(y)), x.shape[1]
    if least // 2 <= d:
        raise ValueError(
            f"extrapolating the Fréchet distance of {d:,} features needs over {2 * d + 1:,} images "
            f"on both sides, there are {least:,}: take more, or the kernel distance, which has no "
            "bias"
        )
    halves = [[moments_of(half) for half in (z[: len(z) // 2], z[len(z) // 2 :])] for z in (x, y)]
    a, b = (first + second for first, second in halves)
    value, to_reference, to_samples = _with_maps(a, b)
    value = 2 * value - sum(_moments_distance(*pair) for pair in zip(*halves, strict=True)) / 2
    changes = (_changes(x, a, b, to_reference), _changes(y, b, a, to_samples))
    return Estimate(value, (value + changes[0], value + changes[1]))


def _pair(samples: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = checked(samples, "samples"), checked(reference, "the reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"samples have {x.shape[1]} features, the reference {y.shape[1]}: take one network"
        )
    return x, y


def _moments_distance(a: Moments, b: Moments) -> float:
    return gaussian_distance(a.mean, a.covariance, b.mean, b.covariance)


def _root(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric root of a positive semi-definite matrix, and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(matrix)
    roots, inverse = _roots(values)
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T


def _roots(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    least = _SPAN * max(values[-1], 0.0)
    inside = values > least
    inverse = np.zeros_like(values)
    inverse[inside] = 1 / np.sqrt(values[inside])
    return np.sqrt(np.maximum(values, 0)), inverse


def _distance(
    mean: np.ndarray,
    covariance: np.ndarray,
    mean_2: np.ndarray,
    covariance_2: np.ndarray,
    shared: np.ndarray,
) -> float:
    gap = mean - mean_2
    overlap = np.sqrt(np.maximum(shared, 0)).sum()
    return float(gap @ gap + np.trace(covariance) + np.trace(covariance_2) - 2 * overlap)


def _with_maps(a: Moments, b: Moments) -> tuple[float, np.ndarray, np.ndarray]:
    """The distance, and the optimal maps from the first Gaussian to the second and back, [d, d]."""
    root, inverse = _root(a.covariance)
    values, vectors = np.linalg.eigh(root @ b.covariance @ root)
    roots, inverse_roots = _roots(values)
    there = inverse @ ((vectors * roots) @ vectors.T) @ inverse
    back = root @ ((vectors * inverse_roots) @ vectors.T) @ root
    return _distance(a.mean, a.covariance, b.mean, b.covariance, values), there, back


def _changes(x: np.ndarray, own: Moments, other: Moments, map_: np.ndarray) -> np.ndarray:
    """What the distance changes by without each fold of x, to first order, [k]."""
    fold_bounds(len(x))
    # In the features' own precision: it is of the interval alone.
    slope = (np.eye(len(own.mean)) - map_).astype(x.dtype)
    mean, gap = own.mean.astype(x.dtype), 2 * (own.mean - other.mean).astype(x.dtype)
    influence = np.empty(len(x))
    for first, end in blocks(len(x)):
        centred = x[first:end] - mean
        influence[first:end] = centred @ gap + np.einsum("ij,ij->i", centred @ slope, centred)
    return linearized(influence)
