"""A score of each class by itself: which class a model draws badly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def per_class(
    score: Callable[[np.ndarray, np.ndarray], T],
    samples: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    reference_labels: np.ndarray,
    classes: Sequence[str],
) -> dict[str, T]:
    """A score of samples against a reference, class by class.

    Each class has a fraction of the images, so that a biased score such as the Fréchet distance is
    higher than that of all, and classes of other sizes do not compare: take the kernel distance.

    Args:
      score: (samples [n, d], reference [m, d]) -> any score.
      samples: features, [n, d].
      labels: class numbers of the samples: those they were drawn with, or a classifier's, [n].
      reference: features, [m, d].
      reference_labels: class numbers of the reference, [m].
      classes: names of the classes.

    Returns:
      {class: score}, of the classes in both sets.

    Raises:
      ValueError: where there is not one label per example, or a class is too small for the score.
    """
    for x, y, what in (
        (samples, labels, "samples"),
        (reference, reference_labels, "the reference"),
    ):
        if len(x) != len(y):
            raise ValueError(f"{what} are {len(x)} with {len(y)} labels: give one label each")
    found = {}
    for number, name in enumerate(classes):
        ours, theirs = (np.asarray(each) == number for each in (labels, reference_labels))
        if not (ours.any() and theirs.any()):
            continue
        try:
            found[name] = score(samples[ours], reference[theirs])
        except ValueError as error:
            raise ValueError(f"class {name}: {error}") from error
    return found
