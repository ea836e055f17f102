"""Has a generator collapsed? How many regions of the data its samples fill, and how many twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import special

from genjax.evaluate.finding import Finding

REGIONS = 20  # of the data, that samples are counted in
ALIKE = 0.85  # of the affinity, and of the regions, that as many real images show: below it, found
TWINS = 0.3  # share of samples with a twin from which on they are collapsed
LEAST = 32  # samples and reference images without which a collapse cannot be told
ERROR_RATE = 0.01
RESAMPLES = 200
ADVICE = (
    "look at the samples; for a GAN lower the learning rates, add a gradient penalty or minibatch "
    "discrimination, or go back to an earlier checkpoint; a VAE: lower beta"
)


def effective(counts: np.ndarray) -> np.ndarray:
    r"""The effective number of categories, the exponential of Shannon's entropy.

    $$
    \exp\Bigl(-\sum_k p_k \log p_k\Bigr)
    $$

    Args:
      counts: of each category, [..., K].

    Returns:
      [...], from 1 to K.

    References:
      Hill, "Diversity and Evenness: A Unifying Notation and Its Consequences" (Ecology, 1973),
      order 1.
    """
    p = counts / counts.sum(-1, keepdims=True)
    return np.exp(special.entr(p).sum(-1))


@dataclass(frozen=True, eq=False)
class Reference:
    """Real images that samples are compared with.

    Attributes:
      features: of real images, float [m, d].
      seed: of the regions and of the resampling.
    """

    features: np.ndarray
    seed: int = 0
    _subsets: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _twins: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def centres(self) -> np.ndarray:
        """Centres of the regions, [K, d]: k-means with a k-means++ start."""
        generator, x = np.random.default_rng(self.seed), self.features
        chosen = [x[generator.integers(len(x))]]
        for _ in range(min(REGIONS, len(np.unique(x, axis=0))) - 1):
            gap = _squared(x, np.stack(chosen)).min(1)
            chosen.append(x[generator.choice(len(x), p=gap / gap.sum())])
        centres = np.stack(chosen)
        for _ in range(20):
            cells = _squared(x, centres).argmin(1)
            centres = np.stack(
                [x[cells == k].mean(0) if (cells == k).any() else c for k, c in enumerate(centres)]
            )
        return centres

    def regions(self, features: np.ndarray) -> np.ndarray:
        """The region that each image lies in.

        Args:
          features: float [n, d].

        Returns:
          int [n].
        """
        return _squared(features, self.centres).argmin(1)

    @cached_property
    def own_regions(self) -> np.ndarray:
        """The regions of the reference images themselves, int [m]."""
        return self.regions(self.features)

    def subsets(self, n: int) -> np.ndarray:
        """Random sets of n of the reference images, with replacement where they are under 2 n.

        Args:
          n: images per set.

        Returns:
          int [RESAMPLES, n].
        """
        if n not in self._subsets:
            generator, m = np.random.default_rng(self.seed + 1), len(self.features)
            self._subsets[n] = (
                generator.integers(0, m, (RESAMPLES, n))
                if m < 2 * n
                else np.stack([generator.permutation(m)[:n] for _ in range(RESAMPLES)])
            )
        return self._subsets[n]

    def twin_distance(self, n: int) -> float:
        """A distance at which hardly any of n real images has a twin.

        Args:
          n: images; as many as there are reference images where those are fewer.

        Returns:
          Half of the distance to the nearest other image that 1 % of them fall below.
        """
        if n not in self._twins:
            generator, m = np.random.default_rng(self.seed + 2), len(self.features)
            some = [generator.permutation(m)[:n] for _ in range(1 + 1000 // n)]
            gaps = np.concatenate([_to_nearest_other(self.features[each]) for each in some])
            self._twins[n] = float(np.quantile(gaps, 0.01)) / 2
        return self._twins[n]


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x - y.mean(0), y - y.mean(0)
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def _to_nearest_other(x: np.ndarray) -> np.ndarray:
    squared = _squared(x, x)
    np.fill_diagonal(squared, np.inf)
    return np.sqrt(squared.min(1))


@dataclass(frozen=True)
class Spread:
    """How images spread over categories, and how as many reference images do.

    Attributes:
      filled: effective number of the categories of the images.
      filled_real: that of as many reference images, on average.
      affinity: of the images' shares with the reference's.
      affinity_real: that of as many reference images, on average.
      deviation: standard deviation of that.
    """

    filled: float
    filled_real: float
    affinity: float
    affinity_real: float
    deviation: float

    def collapsed(self, error_rate: float) -> bool:
        """Whether the images spread less than the reference, and otherwise.

        Args:
          error_rate: of the normal approximation, where the images are like the reference.

        Returns:
          Whether they fill less than 85 % of the categories, with an affinity below 85 % of what
          is expected, or lower where so few images vary by more.
        """
        lowest = self.affinity_real + special.ndtri(error_rate) * self.deviation
        differ = self.affinity < min(ALIKE * self.affinity_real, lowest)
        return bool(differ and self.filled < ALIKE * self.filled_real)


def spread(cells: np.ndarray, reference: np.ndarray, subsets: np.ndarray) -> Spread:
    r"""Compares how images spread over categories with how sets of as many reference images do.

    The affinity of two distributions p and q over the categories is

    $$
    \sum_k \sqrt{p_k q_k}
    $$

    Args:
      cells: category of each image, int [n].
      reference: that of each reference image, int [m].
      subsets: sets of n of them, int [r, n].

    Returns:
      The comparison.

    References:
      Bhattacharyya, "On a Measure of Divergence between Two Statistical Populations Defined by
      Their Probability Distributions" (Bulletin of the Calcutta Mathematical Society, 1943).
    """
    size = max(int(cells.max()), int(reference.max())) + 1
    shares = np.bincount(reference, minlength=size) / len(reference)
    counts = np.stack([np.bincount(x, minlength=size) for x in (cells, *reference[subsets])])
    filled = effective(counts)
    affinity = np.sqrt(counts / len(cells) * shares).sum(1)
    return Spread(
        float(filled[0]),
        float(filled[1:].mean()),
        float(affinity[0]),
        float(affinity[1:].mean()),
        float(affinity[1:].std(ddof=1)),
    )


def collapse(
    features: np.ndarray,
    reference: Reference,
    *,
    classes: tuple[np.ndarray, np.ndarray] | None = None,
    looks: int = 1,
    network: str = "pixels",
    seed: int = 0,
) -> Finding:
    """Compares how samples spread over the data with how as many real images do.

    Found where samples fill fewer regions of the data (or classes) than as many real images, in
    other shares, see `Spread.collapsed`; or where three in ten have a twin among the samples.

    Args:
      features: of the samples, float [n, d].
      reference: the real images.
      classes: predicted classes of samples and of reference images, int [n] and [m].
      looks: how often a run is looked at, all of which together have the error rate.
      network: the name of what made the features.
      seed: of the samples, for the record.

    Returns:
      The decision.

    References:
      Richardson & Weiss, "On GANs and GMMs" (2018), arXiv:1805.12462, for regions of the data.
      Arora & Zhang, "Do GANs actually learn the distribution? An empirical study" (2017),
      arXiv:1706.08224, for twins and the size of the support.
    """
    n, m = len(features), len(reference.features)
    decided = min(n, m) >= LEAST
    if not decided:
        text = f"{n:,} samples and {m:,} held-out images are too few"
        advice = f"give {LEAST} or more of both"
        return Finding("collapse", False, text, advice, {}, ERROR_RATE, n, m, False, network, seed)
    subsets = reference.subsets(n)
    spreads = {"regions": spread(reference.regions(features), reference.own_regions, subsets)}
    if classes is not None:
        spreads["classes"] = spread(*classes, subsets)
    numbers = _twins(features, reference.twin_distance(n))
    found = numbers["twins"] > TWINS
    for name, each in spreads.items():
        found |= each.collapsed(ERROR_RATE / (looks * len(spreads)))
        numbers |= {
            name: each.filled,
            f"{name}_real": each.filled_real,
            f"{name}_affinity": each.affinity,
            f"{name}_affinity_real": each.affinity_real,
        }
    summary = _summary(numbers, n, network)
    return Finding(
        "collapse", found, summary, ADVICE, numbers, ERROR_RATE, n, m, True, network, seed
    )


def _twins(features: np.ndarray, distance: float) -> dict[str, float]:
    """The share of samples with a twin, and the size of a support that would explain the pairs."""
    n = len(features)
    pairs = int((_squared(features, features)[np.triu_indices(n, 1)] <= distance**2).sum())
    share = float((_to_nearest_other(features) <= distance).mean())
    return {"twins": share, "support": n * (n - 1) / 2 / pairs if pairs else np.inf}


def _summary(numbers: Mapping[str, float], n: int, network: str) -> str:
    parts = [
        f"{numbers[name]:.1f} effective {name}, real images {numbers[f'{name}_real']:.1f}"
        for name in ("regions", "classes")
        if name in numbers
    ]
    parts.append(f"{numbers['twins']:.0%} of {n:,} samples have a twin")
    if numbers["support"] < 10 * n:
        parts[-1] += f", as if there were {numbers['support']:,.0f} different ones"
    return f"{'; '.join(parts)} ({network})"


def missing(features: np.ndarray, reference: Reference) -> np.ndarray:
    """Which reference images lie where there should be samples, and are none.

    Args:
      features: of the samples, float [n, d].
      reference: the real images.

    Returns:
      bool [m]: those in regions that n samples like the data would leave empty with a probability
      of 1 % at most, in all.
    """
    size = len(reference.centres)
    counts = np.bincount(reference.regions(features), minlength=size)
    shares = np.bincount(reference.own_regions, minlength=size) / len(reference.features)
    empty = (counts == 0) & ((1 - shares) ** len(features) <= ERROR_RATE / size)
    return empty[reference.own_regions]
