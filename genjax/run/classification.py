"""What a trained classifier gets wrong: errors, confusion and calibration on held-out images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from genjax.data.images import Images
from genjax.errors import ConfigError, printable
from genjax.evaluate import classification
from genjax.evaluate.average import Average
from genjax.run.evaluation import Evaluation
from genjax.train.state import TrainState

CHUNK = 250  # images classified at a time
MOST_SHOWN = 12  # classes whose confusion is printed
UNITS = {"error": "of the images", "negative_log_likelihood": "nats"}


@dataclass(frozen=True, kw_only=True)
class ClassifierEvaluation(Evaluation):
    """The errors of a classifier, and what it takes for what.

    Attributes:
      confusion: int64 [K, K], rows are the true classes, columns the classifier's.
      calibration_error: how far stated probabilities are from shares of hits, 15 bins.
      classes: names of the classes.
    """

    confusion: np.ndarray
    calibration_error: float
    classes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        more = {
            "calibration_error": self.calibration_error,
            "confusion": self.confusion.tolist(),
            "classes": list(self.classes),
        }
        return {**super().as_dict(), **more}

    def __str__(self) -> str:
        lines = [super().__str__(), f"calibration error {self.calibration_error:.4f} (15 bins)"]
        if len(self.classes) > MOST_SHOWN:
            return "\n".join(lines)
        names = [printable(name)[:16] for name in self.classes]
        width = max(map(len, names))
        cells = [len(str(self.confusion.max())), *(len(str(i)) for i in range(len(names)))]
        lines.append("confusion, a row per true class, a column per answer:")
        for name, row in zip(names, self.confusion, strict=True):
            lines.append(f"{name:>{width}}  " + " ".join(f"{n:>{max(cells)}}" for n in row))
        return "\n".join(lines)


def evaluate(
    classify: Callable[[TrainState, jax.Array], tuple[jax.Array, jax.Array]],
    state: TrainState,
    images: Images,
    *,
    n: int | None = None,
    seed: int = 0,
) -> ClassifierEvaluation:
    """Scores a trained classifier on labelled images, with a progress bar.

    Args:
      classify: the family's.
      state: the trained state.
      images: with labels.
      n: how many images, chosen at random by the seed; None or 0 for all.
      seed: of the choice of images.

    Returns:
      The scores.

    Raises:
      ConfigError: for a negative n or seed, one image, which has no standard error, or images
        without labels.
    """
    n = len(images) if not n else min(n, len(images))
    if n < 2 or seed < 0:
        raise ConfigError("--n takes 2 images or more, 0 for all, and --seed is not negative")
    if not images.labelled:
        raise ConfigError(f"{images.name} {images.split} has no labels: nothing tells errors apart")
    began, found = monotonic(), []
    logits_of = jax.jit(lambda state, images: classify(state, images)[1])
    with tqdm(total=n, unit="image", disable=None) as bar:
        for batch in images.evaluation_batches(min(CHUNK, n), limit=n, seed=seed):
            mask = batch["mask"]
            logits = np.asarray(logits_of(state, batch["image"]))
            found.append((logits[mask], batch["label"][mask]))
            bar.update(int(mask.sum()))
    logits, labels = (np.concatenate(each) for each in zip(*found, strict=True))
    scores = classification.per_image(logits, labels)
    return ClassifierEvaluation(
        scores={name: Average(values) for name, values in scores.items()},
        units=UNITS,
        step=int(state.step),
        data=images.name,
        split=images.split,
        n=n,
        of=len(images),
        seed=seed,
        seconds=monotonic() - began,
        confusion=classification.confusion_matrix(labels, logits.argmax(1), logits.shape[1]),
        calibration_error=classification.calibration_error(logits, labels),
        classes=images.classes,
    )
