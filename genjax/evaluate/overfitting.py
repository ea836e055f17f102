"""Does a model fit training images better than held-out ones? By every likelihood it has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax.evaluate.average import Average
from genjax.evaluate.estimate import welch_half_width
from genjax.evaluate.finding import Finding

ERROR_RATE = 0.01
LEAST = 30  # images of each split, for the normal approximation of a mean
ADVICE = (
    "take the checkpoint of the best test score (--best), train for fewer steps, or on more "
    "images, with augmentation, dropout or weight decay"
)


def gap(train: np.ndarray, test: np.ndarray, error_rate: float) -> tuple[float, float, float]:
    """The difference of two means, test less training images, with Welch's interval.

    Args:
      train: score of each training image, [n].
      test: score of each held-out image, [m].
      error_rate: of the interval, both ends together.

    Returns:
      The difference, and the ends of its interval.
    """
    parts = [x.var(ddof=1) / len(x) for x in (train, test)]
    half = float(welch_half_width(parts, [len(train) - 1, len(test) - 1], error_rate))
    value = float(test.mean() - train.mean())
    return value, value - half, value + half


def overfitting(
    train: Mapping[str, Average],
    test: Mapping[str, Average],
    units: Mapping[str, str],
    *,
    seed: int = 0,
) -> Finding:
    """Whether held-out images score worse than training images, beyond the interval.

    Args:
      train: {score: of each training image}, lower is better.
      test: the same scores of held-out images.
      units: {score: unit}, for the summary.
      seed: of the choice of images, for the record.

    Returns:
      The decision: found where the interval of a difference lies above 0; the error rate holds
      for all scores together.

    Raises:
      ValueError: where there is no score.
    """
    if not test:
        raise ValueError("overfitting is seen by a score of training and held-out images: give one")
    numbers: dict[str, float] = {}
    lines, found = [], False
    for name, theirs in test.items():
        ours = train[name]
        # One end decides.
        value, low, high = gap(ours.values, theirs.values, 2 * ERROR_RATE / len(test))
        found |= low > 0
        numbers |= {name: value, f"{name}_low": low, f"{name}_high": high}
        numbers |= {f"{name}_train": ours.mean, f"{name}_test": theirs.mean}
        lines.append(
            f"{name} {ours.mean:.4g} on training images, {theirs.mean:.4g} held-out "
            f"({low:+.3g} to {high:+.3g} {units.get(name, '')}".rstrip()
            + ")"
        )
    n, m = (min(each.n for each in split.values()) for split in (train, test))
    decided = min(n, m) >= LEAST
    return Finding(
        "overfitting",
        bool(found and decided),
        "; ".join(lines),
        ADVICE if decided else f"give {LEAST} images of each split or more",
        numbers,
        ERROR_RATE,
        n,
        m,
        decided,
        seed=seed,
    )
