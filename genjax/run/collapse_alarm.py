"""The alarm of a training run at samples that have collapsed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from genjax import files
from genjax.data.images import Batch
from genjax.evaluate import collapse, copies
from genjax.run import findings

logger = logging.getLogger(__name__)

LOOKS = 1000  # evaluations that share one error rate, however long the run becomes


class CollapseAlarm:
    """Compares the samples of each periodic evaluation with as many held-out images.

    It rings where two evaluations in a row see a collapse, both after the first epoch: samples of
    a hardly trained network are all alike. It draws nothing, changes nothing in the training, and
    never stops a run.

    Args:
      batches: of held-out images, with their "mask".
      directory: of the run: metrics.jsonl has the earlier evaluations, findings.jsonl gets a row.
      epoch: steps per epoch.
      by_class: whether samples are drawn of every class in turn.
    """

    def __init__(
        self,
        batches: Callable[[], Iterator[Batch]],
        directory: Path,
        epoch: int,
        by_class: bool = False,
    ):
        self.batches, self.directory, self.epoch = batches, directory, epoch
        self.by_class = by_class
        self._before: tuple[bool, bool] | None = None  # seen, and rung, at the evaluation before

    @cached_property
    def reference(self) -> collapse.Reference:
        """The held-out images, small enough to be compared in milliseconds."""
        parts = [{k: x[b["mask"]] for k, x in b.items()} for b in self.batches()]
        features = np.concatenate([_coarse(part["image"]) for part in parts])
        if self.by_class and "label" in parts[0]:
            features = features[balanced(np.concatenate([part["label"] for part in parts]))]
        return collapse.Reference(features)

    def __call__(self, step: int, images: np.ndarray) -> dict[str, float]:
        """Looks at samples, and logs a warning where they have collapsed since the last look.

        Args:
          step: of the state that they are of.
          images: uint8 [n, H, W, C].

        Returns:
          {"alarm/collapse": 0 or 1, "alarm/…": its number}; {} where they are too few to tell.
        """
        if len(images) < collapse.LEAST:
            return {}
        finding = collapse.collapse(_coarse(images), self.reference, looks=LOOKS)
        if not finding.decided:
            return {}
        seen_before, rung_before = self._before or self._recorded(step)
        seen = finding.found and step > self.epoch
        rings = seen and seen_before
        self._before = seen, rings
        if rings and not rung_before:
            text = "step %s: samples have collapsed: %s. Training continues: %s"
            logger.warning(text, f"{step:,}", finding.summary, finding.advice)
        if rings or rung_before:
            findings.append(self.directory, step, [replace(finding, found=rings)])
        alike = finding.numbers["regions_affinity"] / finding.numbers["regions_affinity_real"]
        return {
            "alarm/collapse": float(rings),
            "alarm/collapse_seen": float(seen),
            "alarm/collapse_affinity": alike,
            "alarm/collapse_twins": finding.numbers["twins"],
        }

    def _recorded(self, step: int) -> tuple[bool, bool]:
        """What the last evaluation before a step saw, of a run that was resumed."""
        for row, _ in reversed(files.read_lines(self.directory / "metrics.jsonl")[0]):
            if row["step"] < step and "alarm/collapse" in row:
                return row.get("alarm/collapse_seen") == 1, row["alarm/collapse"] == 1
        return False, False


def balanced(labels: np.ndarray) -> np.ndarray:
    """Rows of equally many images of each class, as samples are that are drawn of each in turn.

    Args:
      labels: class of each image, int [m].

    Returns:
      int [about m]; images of rare classes are repeated.
    """
    classes = np.unique(labels)
    each = -(-len(labels) // len(classes))
    return np.concatenate([np.resize(np.flatnonzero(labels == k), each) for k in classes])


def _coarse(images: np.ndarray) -> np.ndarray:
    small = copies.reduced(images, copies.COARSE)
    return np.asarray(small).reshape(len(small), -1)
