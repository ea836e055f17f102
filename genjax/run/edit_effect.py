"""What an edit did to the classes of images, by a classifier that had no part in it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from genjax.errors import ConfigError
from genjax.run.classifier import load_classifier

OTHERS = 2  # further classes that are named, those that changed most


def effect(
    classifier: str, before: np.ndarray, after: np.ndarray, names: Sequence[str], target: int
) -> str:
    """The mean probability of the class that was wanted, and what else changed.

    Args:
      classifier: the folder of an exported classifier of the same classes.
      before: uint8 [m, H, W, C].
      after: uint8 [m, H, W, C].
      names: of the classes.
      target: the class that was wanted.

    Returns:
      One line.

    Raises:
      ConfigError: where the folder holds no classifier of these classes and images.
    """
    network = load_classifier(classifier)
    assert network.logits is not None
    try:
        found = [
            np.asarray(jax.nn.softmax(network.all_logits([x])).mean(0)) for x in (before, after)
        ]
    except ValueError as error:
        raise ConfigError(f"--classifier {classifier}: {error}") from error
    if len(found[0]) != len(names):
        raise ConfigError(
            f"--classifier {classifier} tells {len(found[0])} classes apart, and this run's data "
            f"have {len(names)}: train it on the same data"
        )
    change = found[1] - found[0]
    others = [i for i in np.argsort(-np.abs(change)) if i != target][:OTHERS]
    rest = ", ".join(f"{names[i]} {change[i]:+.2f}" for i in others)
    return (
        f"{names[target]} by {network.name}: {found[0][target]:.2f} before, "
        f"{found[1][target]:.2f} after, the mean of {len(before)} images; what else changed most: "
        f"{rest}"
    )
