"""Are samples copies of training images? Decided against what held-out images show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from genjax.evaluate import copies, nearest
from genjax.evaluate.features.network import FeatureNetwork
from genjax.evaluate.finding import Finding

ERROR_RATE = 0.01  # of the decision, and of each image that is flagged as a near copy
LEAST = 100  # held-out images without which a near copy cannot be told
NEIGHBOURS = 16  # training images per sample, the nearest against the mean of the others
ADVICE = (
    "look at audit_nearest.png; train for fewer steps, on more images or with augmentation, and "
    "remove duplicates from the training set"
)


class Neighbours(NamedTuple):
    """The nearest training images of some images.

    Attributes:
      aligned: as found up to shift, reflection and recolouring.
      distances: in the features of a network, rising, [n, k].
      rows: of the training images, the nearest first in these features, [n, k].
      authentic: whether each is authentic, see `authentic`, bool [n].
    """

    aligned: copies.Matches
    distances: np.ndarray
    rows: np.ndarray
    authentic: np.ndarray


@dataclass(frozen=True)
class Memorization:
    """What was found of copies.

    Attributes:
      finding: the decision.
      closeness: of each sample, 1 at the threshold of near copies, below for copies, [n].
      copied: the training image nearest to each sample, by the measure in which it is closer, [n].
    """

    finding: Finding
    closeness: np.ndarray
    copied: np.ndarray


def neighbours(
    images: np.ndarray,
    training: nearest.Gallery,
    network: FeatureNetwork,
    progress: Callable[[int], None] | None = None,
    *,
    features: np.ndarray | None = None,
) -> Neighbours:
    """The nearest training images, by aligned pixels and by features.

    Args:
      images: uint8 [n, H, W, C].
      training: the images that may have been copied.
      network: of the features.
      progress: called after each block with the number of training images that were compared, of
        3 N in all.
      features: of the training images, [N, d]; None to compute them, twice and in constant memory.

    Returns:
      The neighbours.

    Raises:
      ValueError: where there are fewer than three training images.
    """
    if len(training) < 3:
        raise ValueError(f"copies are looked for among three images or more, not {len(training)}")

    def report(before: int) -> Callable[[int], None] | None:
        return (lambda done: progress(before + done)) if progress else None

    def gallery() -> Iterator[np.ndarray]:
        if features is not None:
            return nearest.blocks(features)
        return (network([block]) for block in nearest.blocks(training))

    k, total = min(NEIGHBOURS, len(training)), len(training)
    queries = network(nearest.blocks(images))
    distances, rows = nearest.nearest(queries, gallery(), k, progress=report(0))
    some, place = np.unique(rows[:, 0], return_inverse=True)
    nearby = network([training[some]]) if features is None else features[some]
    own, _ = nearest.nearest(nearby, gallery(), exclude=some, progress=report(total))
    aligned = copies.matches(images, training, candidates=k, progress=report(2 * total))
    return Neighbours(aligned, distances, rows, authentic(distances[:, 0], own[place, 0]))


def data_copying(
    samples: np.ndarray,
    held_out: np.ndarray,
    sample_cells: np.ndarray | None = None,
    held_out_cells: np.ndarray | None = None,
) -> tuple[float, float]:
    r"""The statistic C_T: whether samples lie closer to training images than held-out images do.

    In each cell the rank statistic of Mann and Whitney, standardised, of the distances L to the
    nearest training image; over cells, their mean weighted by the share of held-out images.

    $$
    Z_U = \frac{U - \frac{mn}{2}}{\sqrt{\frac{mn(m + n + 1)}{12}}}, \qquad
    U = \sum_{i, j} 1[L(y_i) > L(x_j)], \qquad
    C_T = \frac{\sum_\pi P_\pi Z_\pi}{\sum_\pi P_\pi}
    $$

    for samples y and held-out x. Below 0 the samples are closer, above 0 farther. Blurred samples
    are closer, too, without being copies.

    Args:
      samples: distance of each sample to its nearest training image, [n].
      held_out: that of each held-out image, [m].
      sample_cells: number of the cell that each sample lies in, [n]; None for one cell.
      held_out_cells: that of each held-out image, [m].

    Returns:
      C_T, and C_T over its standard deviation where samples are like held-out images: N(0, 1).

    References:
      Meehan, Chaudhuri & Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative
      Models" (2020), arXiv:2004.05675, section 4.
    """
    if sample_cells is None or held_out_cells is None:
        sample_cells, held_out_cells = np.zeros(len(samples)), np.zeros(len(held_out))
    weighted = weights = squares = 0.0
    for cell in np.unique(held_out_cells):
        y, x = samples[sample_cells == cell], held_out[held_out_cells == cell]
        if not len(y):
            continue
        n, m = len(y), len(x)
        ranks = stats.rankdata(np.concatenate([y, x]))
        u = ranks[:n].sum() - n * (n + 1) / 2
        z = (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
        weight = m / len(held_out)
        weighted, weights, squares = weighted + weight * z, weights + weight, squares + weight**2
    if not weights:
        return float("nan"), float("nan")
    return float(weighted / weights), float(weighted / np.sqrt(squares))


def authentic(distances: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Which images are farther from their nearest training image than that is from its own nearest.

    Their share in percent is AuthPct, which is to be read against that of held-out images: where
    a training set is dense that is about 50.

    Args:
      distances: of each image to its nearest training image, [n].
      own: of that training image to the nearest other one, [n].

    Returns:
      bool [n].

    References:
      Alaa, van Breugel, Saveliev & van der Schaar, "How Faithful is your Synthetic Data?
      Sample-level Metrics for Evaluating and Auditing Generative Models" (2022),
      arXiv:2102.08921, section 3.
    """
    return distances > own


def exceedance(k: int, n: int, rank: int, m: int) -> float:
    r"""How likely k or more of n samples lie below the `rank`-th smallest of m held-out values.

    $$
    P(K \ge k), \qquad K \sim \operatorname{BetaBinomial}(n, r, m + 1 - r)
    $$

    Exact where samples and held-out images are draws from one distribution, whatever that is.

    Args:
      k: samples below.
      n: samples.
      rank: r, from 1.
      m: held-out values.

    Returns:
      The probability.

    References:
      Epstein, "Tables for the Distribution of the Number of Exceedances" (Annals of Mathematical
      Statistics, 1954).
    """
    return float(stats.betabinom.sf(k - 1, n, rank, m + 1 - rank))


def decide(
    near: Neighbours, real: Neighbours, *, network: str = "pixels", seed: int = 0
) -> Memorization:
    """Whether samples are copies of training images more often than held-out images seem to be.

    A sample is as close as its nearest training image is nearer than the next ones, in aligned
    pixels or in features, whichever is closer; a near copy is closer than 99 % of the held-out
    images are. That is decided by `exceedance` at the closest held-out image and at the closest
    percent, at half the error rate each.

    Args:
      near: the neighbours of the samples.
      real: those of real images that were not trained on.
      network: the name of what made the features.
      seed: of the samples, for the record.

    Returns:
      The decision and what it rests on.
    """
    closeness, real_closeness, copied = _closeness(near, real)
    n, m, ordered = len(closeness), len(real_closeness), np.sort(real_closeness)
    ranks = sorted({max(1, m // 1000), _rank(m)})
    below = [int((closeness < ordered[rank - 1]).sum()) for rank in ranks]
    chances = [exceedance(k, n, r, m) for k, r in zip(below, ranks, strict=True)]
    c_t, z = data_copying(near.distances[:, 0], real.distances[:, 0])
    numbers = {
        "near_copies": below[-1] / n,
        "closer_than_any_held_out": below[0] / n,
        "probability": min(1.0, len(ranks) * min(chances)),
        "c_t": c_t,
        "c_t_z": z,
        "authpct": 100 * float(near.authentic.mean()),
        "authpct_held_out": 100 * float(real.authentic.mean()),
    }
    decided = m >= LEAST
    found = decided and numbers["probability"] <= ERROR_RATE
    finding = Finding(
        "memorization",
        found,
        _summary(numbers, n, network, found),
        ADVICE if decided else f"give {LEAST} held-out images or more: there are {m}",
        numbers,
        ERROR_RATE,
        n,
        m,
        decided,
        network,
        seed,
    )
    return Memorization(finding, closeness, copied)


def _closeness(near: Neighbours, real: Neighbours) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Closeness of samples and of held-out images, 1 at the threshold, and who is copied."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for ours, theirs in (
        (near.aligned.distances, real.aligned.distances),
        (near.distances, real.distances),
    ):
        # The scales are those of both together: the test is exact where they do not tell apart
        # which images are samples.
        both = np.concatenate([ours, theirs])
        others = both[:, 1:].mean(1)
        # Beside many duplicates in the training set a copy is no nearer than the next ones.
        ratios = both[:, 0] / np.maximum(others, max(float(np.median(others)) / 2, 1e-12))
        ratios = ratios / max(float(np.median(ratios)), 1e-6)
        found.append((ratios[: len(ours)], ratios[len(ours) :]))
    (aligned, aligned_real), (plain, plain_real) = found
    copied = np.where(aligned <= plain, near.aligned.rows[:, 0], near.rows[:, 0])
    closeness, real_closeness = np.minimum(aligned, plain), np.minimum(aligned_real, plain_real)
    threshold = max(float(np.sort(real_closeness)[_rank(len(real_closeness)) - 1]), 1e-6)
    return closeness / threshold, real_closeness / threshold, copied


def _rank(m: int) -> int:
    return max(1, int(ERROR_RATE * (m + 1)))


def _summary(numbers: dict[str, float], n: int, network: str, found: bool) -> str:
    text = (
        f"{numbers['near_copies']:.1%} of {n:,} samples are near copies of training images, of "
        f"held-out images {ERROR_RATE:.0%} (p = {numbers['probability']:.2g}); C_T "
        f"{numbers['c_t']:+.1f}, AuthPct {numbers['authpct']:.0f} % "
        f"(held-out {numbers['authpct_held_out']:.0f} %), {network}"
    )
    if numbers["c_t_z"] < -3 and not found:
        text += "; samples lie closer to training images than held-out ones, as blurred ones do"
    return text
