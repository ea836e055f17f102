"""A number estimated from two sets, with its interval by a jackknife over folds of each set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

FOLDS = 20
"""Folds of each set: enough for t quantiles near the normal ones, few enough to be recomputed."""

LEVEL = 0.95
"""Confidence level of intervals."""


@dataclass(frozen=True, eq=False)
class Estimate:
    r"""A score of samples against a reference, and what it is without each fold of either.

    $$
    \hat{\mathrm{se}}^2 = \sum_{\text{sets}} \frac{k-1}{k} \sum_{j=1}^{k}
    \bigl(\hat\theta_{(-j)} - \bar\theta_{(-\cdot)}\bigr)^2
    $$

    The folds are random parts of a set, so that no example occurs twice. A bootstrap draws with
    replacement: a third of its draws are duplicates, at distance 0 from each other and maximal in
    kernel, which shifts every score that compares examples of one set (kernel distance, nearest
    neighbours, Vendi). The interval is of the score at this n: it covers the expectation of the
    score over sets of these sizes, not its limit for large n. Where the two distributions are the
    same, the scores' first-order variance vanishes and the jackknife overestimates what is left
    (by two in the variance of a degenerate U-statistic): there the intervals are too wide, never
    too narrow.

    Attributes:
      value: the score.
      replicates: per independent set, the score without fold j of it, [k]: of the samples, and of
        the reference where there is one.
      share_of: where the score is the share of some examples, how many; else 0. The interval then
        holds Wilson's: a share of 0 or 1 has no variance among the folds, and is not certain.

    References:
      Efron & Stein, "The Jackknife Estimate of Variance" (Annals of Statistics, 1981).
      Arvesen, "Jackknifing U-Statistics" (Annals of Mathematical Statistics, 1969).
      Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (JASA 1927).
    """

    value: float
    replicates: tuple[np.ndarray, ...]
    share_of: int = 0

    @property
    def method(self) -> str:
        """How the interval comes about, in words."""
        wilson = " and Wilson's" if self.share_of else ""
        return f"jackknife over {len(self.replicates[0])} folds{wilson}"

    @property
    def _variances(self) -> np.ndarray:
        return np.array([(len(r) - 1) * r.var() for r in self.replicates])

    @property
    def error(self) -> float:
        """The standard error."""
        return float(self._variances.sum() ** 0.5)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval by a t distribution with the degrees of freedom of Welch and Satterthwaite.

        Args:
          level: confidence, in 0..1.

        Returns:
          Its ends.
        """
        free = [len(r) - 1 for r in self.replicates]
        half = float(welch_half_width(self._variances, free, 1 - level))
        low, high = self.value - half, self.value + half
        if self.share_of:
            least, most = _wilson(self.value, self.share_of, level)
            low, high = max(0.0, min(low, least)), min(1.0, max(high, most))
        return low, high

    def minus(self, other: Estimate) -> Estimate:
        """The difference of two scores against one reference: a paired jackknife.

        What a fold of the reference contributes to both is subtracted fold by fold; the samples of
        the two are independent of each other.

        Args:
          other: of other samples, against the same reference in the same order.

        Returns:
          An estimate of the difference.
        """
        samples, *reference = self.replicates
        others, *same = other.replicates
        paired = [a - b for a, b in zip(reference, same, strict=True)]
        return Estimate(self.value - other.value, (samples, others, *paired))


def welch_half_width(
    variances: Sequence[Any] | np.ndarray, freedom: Sequence[int], error_rate: float
) -> np.ndarray:
    r"""Half the width of the interval of a sum of independent estimates.

    $$
    t_{\nu} \sqrt{\textstyle\sum_i v_i}, \qquad
    \nu = \frac{\left(\sum_i v_i\right)^2}{\sum_i v_i^2 / \nu_i}
    $$

    Args:
      variances: v of each estimate, [k, ...].
      freedom: ν of each, their degrees of freedom, [k].
      error_rate: of the interval, both ends together.

    Returns:
      [...], 0 where nothing varies.

    References:
      Welch, "The Generalization of 'Student's' Problem when Several Different Population Variances
      are Involved" (Biometrika, 1947).
    """
    parts = [np.asarray(v, np.float64) for v in variances]
    total = np.sum(parts, 0)
    below = np.sum([v**2 / free for v, free in zip(parts, freedom, strict=True)], 0)
    varies = below > 0
    degrees = np.where(varies, total, 1) ** 2 / np.where(varies, below, 1)
    return np.where(varies, -special.stdtrit(degrees, error_rate / 2) * np.sqrt(total), 0.0)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    z = float(special.ndtri((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return centre - half, centre + half


def linearized(influence: np.ndarray) -> np.ndarray:
    r"""What a score changes by without each fold, to first order: the infinitesimal jackknife.

    Args:
      influence: the derivative of the score by the weight of each example, [n].

    Returns:
      The changes, [k].

    References:
      Jaeckel, "The Infinitesimal Jackknife" (Bell Laboratories, 1972).
    """
    centred = influence - influence.mean()
    bounds = fold_bounds(len(centred))
    return np.array([-centred[a:b].sum() / (len(centred) - (b - a)) for a, b in bounds])


def fold_bounds(n: int, folds: int = FOLDS) -> list[tuple[int, int]]:
    """Folds of a set in random order as ranges, of nearly equal size.

    Args:
      n: examples.
      folds: how many.

    Returns:
      [(first, end)].

    Raises:
      ValueError: where a fold would have less than two examples.
    """
    if n < 2 * folds:
        raise ValueError(f"{n} images are too few for an interval: give at least {2 * folds}")
    ends = [n * j // folds for j in range(folds + 1)]
    return list(itertools.pairwise(ends))


def checked(features: np.ndarray, what: str) -> np.ndarray:
    """Features as scores take them.

    Args:
      features: [n, ...].
      what: what messages call them.

    Returns:
      float32 or float64 [n, d].

    Raises:
      ValueError: where there are none, or one is not finite.
    """
    x = np.asarray(features)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{what} must be features [n, d], not of shape {x.shape}")
    x = x.reshape(len(x), -1)
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float32)
    for first, end in blocks(len(x)):
        if not np.isfinite(x[first:end]).all():
            raise ValueError(f"{what} hold NaN or infinity")
    return x


def blocks(n: int, size: int = 4096) -> Iterator[tuple[int, int]]:
    """Ranges of rows that fit into memory.

    Args:
      n: rows.
      size: of a block.

    Yields:
      (first, end).
    """
    for first in range(0, n, size):
        yield first, min(first + size, n)
