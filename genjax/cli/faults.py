"""What a run does about a step that is not finite, and the record that lets it be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.cli.config import Run
from genjax.data import Images
from genjax.data.order import batch_indices
from genjax.files import read_rows
from genjax.train import processes
from genjax.train.keys import step_key, train_key
from genjax.train.loop import NonFiniteError

MOST_ROLLBACKS = 3  # from one checkpoint
MOST_SKIPPED = 10  # in a row

KEYS = {"step", "not_finite", "answer", "from", "rollbacks", "key", "images"}


class Faults:
    """Answers each fault as --run.non-finite says, and writes faults.jsonl, a row a fault.

    A row: "step", counted from 1; "not_finite", the metrics' names; "answer"; "images", the batch's
    indices in the train split; "key", the data of the step's key, with which each player's and
    example's are folded; "rollbacks", how many there had been; "from", the step this stretch of
    the run began at.
    """

    def __init__(self, directory: Path, run: Run, images: Images, say: Callable[[str], None]):
        self.path = directory / "faults.jsonl"
        self.run, self.images, self.say = run, images, say
        self.rows = recorded(directory)
        self.rolling_back = False
        self.in_a_row = self.last = 0

    def begin(self, key: jax.Array, start: int) -> jax.Array:
        """The key of the train steps from `start` on: another one after each rollback."""
        self.rollbacks = sum(row["answer"] == "rollback" for row in self.rows)
        if processes.is_multi_process():  # not every host may see the file
            self.rollbacks = int(processes.maximum(self.rollbacks))
        self.key, self.start, self.rolling_back = train_key(key, self.rollbacks), start, False
        return self.key

    def __call__(self, fault: NonFiniteError) -> None:
        self.in_a_row = self.in_a_row + 1 if fault.step == self.last + 1 else 1
        self.last = fault.step
        answer = self._answer()
        self._record(fault, answer)
        if answer == "skip":
            self.say(f"step {fault.step:,} is left out: {', '.join(fault.metrics)} not finite")
            return
        self.rolling_back = answer == "rollback"
        self.say(
            f"{fault}; going back to the last checkpoint, with other noise"
            if self.rolling_back
            else f"step {fault.step:,} is recorded in {self.path}; `replay` runs it again"
        )
        raise fault

    def _answer(self) -> str:
        answer = self.run.non_finite
        if answer == "skip" and self.in_a_row > MOST_SKIPPED:
            self.say(f"{MOST_SKIPPED} updates in a row were left out: that is no accident")
            return "stop"
        earlier = [r for r in self.rows if r["answer"] == "rollback" and r["step"] > self.start]
        if answer == "rollback" and len(earlier) >= MOST_ROLLBACKS:
            self.say(f"{MOST_ROLLBACKS} rollbacks to step {self.start:,} did not help")
            return "stop"
        return answer

    def _record(self, fault: NonFiniteError, answer: str) -> None:
        batch = fault.step - 1
        indices = batch_indices(self.run.seed, batch, self.run.batch, len(self.images))[0]
        key = step_key(self.key, batch)
        row = {
            "step": fault.step,
            "not_finite": fault.metrics,
            "answer": answer,
            "from": self.start,
            "rollbacks": self.rollbacks,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "images": indices.tolist(),
        }
        self.rows.append(row)
        if processes.is_main_process():
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def recorded(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's faults.jsonl."""
    return [row for row in read_rows(directory / "faults.jsonl") if row.keys() >= KEYS]
