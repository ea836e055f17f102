"""What a run does about a step that is not finite, and the record that lets it be replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import files
from genjax.data.images import Images
from genjax.data.order import batch_indices
from genjax.run.settings import Settings
from genjax.train import processes
from genjax.train.keys import step_key, train_key
from genjax.train.loop import NonFiniteError

logger = logging.getLogger(__name__)

MOST_ROLLBACKS = 3  # from one checkpoint
MOST_SKIPPED = 10  # in a row

FIELDS: dict[str, Callable[[Any], bool]] = {
    "step": files.is_count,
    "not_finite": lambda value: _all(value, lambda name: isinstance(name, str)),
    "answer": lambda value: value in ("stop", "skip", "rollback"),
    "from": files.is_count,
    "rollbacks": files.is_count,
    "key": lambda value: _all(value, files.is_count),
    "images": lambda value: _all(value, files.is_count),
}


def _all(values: Any, good: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and all(map(good, values))


class NonFinitePolicy:
    """Handles each step that is not finite as `Settings.non_finite` says, and records it.

    A row of faults.jsonl: "step", counted from 1; "not_finite", the metrics' names; "answer": stop,
    skip or rollback; "images", the batch's indices in the train split; "key", the data of the
    step's key, with which each player's and example's are folded; "rollbacks", how many there had
    been; "from", the step that this stretch of the run started at.

    Args:
      directory: the run's.
      settings: the run's.
      images: the train split.
    """

    def __init__(self, directory: Path, settings: Settings, images: Images):
        self.path = directory / "faults.jsonl"
        self.settings, self.images = settings, images
        self.rows = recorded_faults(directory)
        self.rolling_back = False
        self.in_a_row = self.last = 0

    def start(self, key: jax.Array, step: int) -> jax.Array:
        """Starts a stretch of the run.

        Args:
          key: the run's.
          step: the one it starts at.

        Returns:
          The key of the train steps of this stretch: another one after each rollback.
        """
        # Each row tells how many there had been: one that is lost does not change the count.
        after = (row["rollbacks"] + (row["answer"] == "rollback") for row in self.rows)
        self.rollbacks = max(after, default=0)
        if processes.is_multi_process():  # not every host may see the file
            self.rollbacks = int(processes.maximum(self.rollbacks))
        self.key, self.began, self.rolling_back = train_key(key, self.rollbacks), step, False
        # Skips up to here count on: an interrupted run stops where one uninterrupted does.
        skipped = {row["step"] for row in self.rows if row["answer"] == "skip"}
        self.last, self.in_a_row = step, 0
        while self.last - self.in_a_row in skipped:
            self.in_a_row += 1
        if processes.is_multi_process():
            self.in_a_row = int(processes.maximum(self.in_a_row))
        return self.key

    def __call__(self, error: NonFiniteError) -> None:
        """Records a step and skips its update, or raises.

        Args:
          error: the step and its metrics that are not finite.

        Raises:
          NonFiniteError: where the run stops or rolls back; `rolling_back` says which.
        """
        self.in_a_row = self.in_a_row + 1 if error.step == self.last + 1 else 1
        self.last = error.step
        answer = self._answer()
        self._record(error, answer)
        if answer == "skip":
            logger.warning(
                "step %s is skipped: %s",
                f"{error.step:,}",
                f"{', '.join(error.metrics)} not finite",
            )
            return
        self.rolling_back = answer == "rollback"
        if self.rolling_back:
            logger.warning("%s; going back to the last checkpoint, with other noise", error)
        else:
            logger.warning(
                "step %s is recorded in %s; `replay` runs it again", f"{error.step:,}", self.path
            )
        raise error

    def _answer(self) -> str:
        answer = self.settings.non_finite
        if answer == "skip" and self.in_a_row > MOST_SKIPPED:
            logger.warning("%d updates in a row were skipped: that is no accident", MOST_SKIPPED)
            return "stop"
        earlier = [r for r in self.rows if r["answer"] == "rollback" and r["step"] > self.began]
        if answer == "rollback" and len(earlier) >= MOST_ROLLBACKS:
            logger.warning(
                "%d rollbacks to step %s did not help", MOST_ROLLBACKS, f"{self.began:,}"
            )
            return "stop"
        return answer

    def _record(self, error: NonFiniteError, answer: str) -> None:
        batch = error.step - 1
        indices = batch_indices(self.settings.seed, batch, self.settings.batch, len(self.images))[0]
        key = step_key(self.key, batch)
        row = {
            "step": error.step,
            "not_finite": error.metrics,
            "answer": answer,
            "from": self.began,
            "rollbacks": self.rollbacks,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "images": indices.tolist(),
        }
        # A killed run skips the steps after its last checkpoint once more.
        known = any(all(old[k] == row[k] for k in ("step", "answer", "key")) for old in self.rows)
        self.rows.append(row)
        if processes.is_main_process() and not (known and answer == "skip"):
            files.append_rows(self.path, [row])


def recorded_faults(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's faults.jsonl.

    Args:
      directory: the run's.

    Returns:
      The complete rows in order.
    """
    rows = files.read_rows(directory / "faults.jsonl")
    found = [
        row
        for row in rows
        if row.keys() >= FIELDS.keys() and all(good(row[name]) for name, good in FIELDS.items())
    ]
    if len(found) < len(rows):
        logger.warning(
            "%s: %s row(s) of another form are skipped",
            directory / "faults.jsonl",
            f"{len(rows) - len(found):,}",
        )
    return found
