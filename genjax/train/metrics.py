"""The numbers and images of a run: metrics.jsonl and TensorBoard events."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 30  # between writes of TensorBoard events to the disk, apart from evaluations


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a row is of an evaluation, not of train steps.

    Args:
      row: {name: number}.

    Returns:
      Whether it has a score or an alarm.
    """
    return any(name.startswith(("test/", "alarm/")) for name in row)


class MetricsWriter:
    """Writes rows {"step": …, name: number, …} to metrics.jsonl and TensorBoard.

    Rows of later steps, of a run that was killed after its last checkpoint, are dropped, so that a
    resumed run leaves the rows of one uninterrupted.

    Args:
      directory: the run's.
      step: where the run (re)starts.
      enabled: False on every process but the main one: nothing is written.
      keep_row: which of the earlier rows to keep, too.
      last_row: step of the last row there should be; a warning is logged where there is none.

    Raises:
      OSError: where metrics.jsonl cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        step: int,
        enabled: bool,
        keep_row: Callable[[dict[str, Any]], bool] = lambda row: True,
        last_row: int = 0,
    ):
        self._directory, self._start = directory, step
        self._file = None
        self.last_row = 0  # step of the last row of a train step that was kept or written
        if not enabled:
            return
        path = directory / "metrics.jsonl"
        rows, damaged = files.read_lines(path)
        if damaged:
            copy = files.unused(path.with_name(f"{path.name}.damaged"))
            path.rename(copy)
            logger.warning(
                "%s: %s damaged line(s) are skipped; the file as it was is %s",
                path,
                f"{damaged:,}",
                copy.name,
            )
        with files.atomic_open(path, "wb") as file:
            for row, line in rows:
                if row["step"] <= step and keep_row(row):
                    file.write(line)
                    self._note(row["step"], row)
        if self.last_row < last_row:
            logger.warning("%s ends before step %s: rows are missing", path, f"{last_row:,}")
        self._file = files.open_to_append(path)

    def _note(self, step: int, numbers: Mapping[str, Any]) -> None:
        if not is_evaluation(numbers):
            self.last_row = max(self.last_row, step)

    @cached_property
    def _board(self) -> "_Board":
        # Not before the first row: where torch is installed this imports it.
        return _Board(self._directory / "tensorboard", self._start + 1)

    def write(self, step: int, numbers: Mapping[str, float], *, ended: bool = True) -> None:
        """Adds a row.

        Args:
          step: the row's.
          numbers: {name: number}; one that is not finite becomes null.
          ended: False for the last row of a run, where it would be another one in a longer run.
        """
        if self._file is None:
            return
        self._file.write(files.row_line({"step": step, **numbers}))
        if ended:
            self._note(step, numbers)
        self._board.scalars(step, numbers)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds an image to TensorBoard.

        Args:
          step: the image's.
          name: the image's.
          image: uint8 [H, W, C].
        """
        if self._file is not None:
            self._board.image(step, name, image)

    def close(self) -> None:
        """Closes the files."""
        if self._file is None:
            return
        self._file.close()
        if "_board" in vars(self):
            self._board.close()


class _Board:
    """A TensorBoard event file, written by whoever calls.

    tensorboardX' own writer has a thread and a bounded queue: once the thread has met a full disk,
    the next write waits for ever.
    """

    def __init__(self, folder: Path, purge_step: int):
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event = summary, Event
        folder.mkdir(exist_ok=True)
        # The step tells apart what is started within one second, as after a rollback.
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}.{purge_step}")
        self._flushed = time.monotonic()
        start = SessionLog(status=SessionLog.START)
        self._add(step=purge_step, session_log=start)

    def _add(self, **values: Any) -> None:
        self._file.write_event(self._event(wall_time=time.time(), **values))

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self._add(step=step, summary=self._summary.scalar(name, number))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._add(step=step, summary=self._summary.image(name, image, dataformats="HWC"))
        self._flush()

    def _flush(self) -> None:
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()
