"""The classes that a trained classifier sees in images, and what an edit did to them."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from genjax.errors import ConfigError
from genjax.run.classifier import load_classifier

CHUNK = 200  # images that are classified at once
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
    seen, called = probabilities(classifier, np.concatenate([before, after]), names)
    found = [each.mean(0) for each in np.split(seen, [len(before)])]
    change = found[1] - found[0]
    others = [i for i in np.argsort(-np.abs(change)) if i != target][:OTHERS]
    rest = ", ".join(f"{names[i]} {change[i]:+.2f}" for i in others)
    return (
        f"{names[target]} by {called}: {found[0][target]:.2f} before, "
        f"{found[1][target]:.2f} after, the mean of {len(before)} images; what else changed most: "
        f"{rest}"
    )


def probabilities(
    classifier: str, images: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, str]:
    """The classes that a classifier sees in images.

    Args:
      classifier: the folder of an exported classifier of the same classes.
      images: uint8 [m, H, W, C].
      names: of the classes.

    Returns:
      [m, classes], and what the classifier is called.

    Raises:
      ConfigError: where the folder holds no classifier of these classes and images.
    """
    network = load_classifier(classifier)
    assert network.logits is not None
    parts = (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))
    try:
        found = np.asarray(jax.nn.softmax(network.all_logits(parts)))
    except ValueError as error:
        raise ConfigError(f"--classifier {classifier}: {error}") from error
    if found.shape[1] != len(names):
        raise ConfigError(
            f"--classifier {classifier} tells {found.shape[1]} classes apart, and this run's data "
            f"have {len(names)}: train it on the same data"
        )
    return found, network.name
