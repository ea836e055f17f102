"""The alarm of a training run: have the samples that it draws collapsed?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from genjax.data.images import Batch
from genjax.evaluate import collapse, copies
from genjax.run import findings

logger = logging.getLogger(__name__)

EARLY = 5  # evaluations without an alarm: samples of a hardly trained network are all alike
LOOKS = 1000  # evaluations that share one error rate, however long the run becomes


class CollapseAlarm:
    """Compares the samples of each periodic evaluation with as many held-out images.

    It draws nothing and changes nothing in the training, and never stops a run.

    Args:
      batches: of held-out images, with their "mask".
      directory: of the run, for findings.jsonl.
      every: steps between evaluations.
    """

    def __init__(self, batches: Callable[[], Iterator[Batch]], directory: Path, every: int):
        self.batches, self.directory, self.every = batches, directory, every

    @cached_property
    def reference(self) -> collapse.Reference:
        """The held-out images, small enough to be compared in milliseconds."""
        return collapse.Reference(
            np.concatenate([_coarse(b["image"][b["mask"]]) for b in self.batches()])
        )

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
        early = step < EARLY * self.every
        if not early:
            before = findings.last(self.directory, finding.name, step - 1)
            risen = before is not None and before.found
            if finding.found and not risen:
                logger.warning(
                    "step %s: samples have collapsed: %s. %s (%s)",
                    f"{step:,}",
                    finding.summary,
                    finding.advice,
                    "training continues",
                )
            if finding.found or risen:
                findings.append(self.directory, step, [finding])
        alike = finding.numbers["regions_affinity"] / finding.numbers["regions_affinity_real"]
        return {
            "alarm/collapse": float(finding.found and not early),
            "alarm/collapse_affinity": alike,
            "alarm/collapse_twins": finding.numbers["twins"],
        }


def _coarse(images: np.ndarray) -> np.ndarray:
    small = copies.reduced(images, copies.COARSE)
    return np.asarray(small).reshape(len(small), -1)
