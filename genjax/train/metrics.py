"""The numbers and images of a run: metrics.jsonl and TensorBoard events."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files


class MetricsWriter:
    """Writes rows {"step": …, name: number, …} to metrics.jsonl and TensorBoard.

    Rows of later steps, of a run that was killed after its last checkpoint, are dropped, so that a
    resumed run leaves the rows of one uninterrupted.

    Args:
      directory: the run's.
      step: where the run (re)starts.
      enabled: False on every process but the main one: nothing is written.
      keep_row: which of the earlier rows to keep, too.

    Raises:
      OSError: where metrics.jsonl cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        step: int,
        enabled: bool,
        keep_row: Callable[[dict[str, Any]], bool] = lambda row: True,
    ):
        self._directory, self._start = directory, step
        self._file = None
        if not enabled:
            return
        path = directory / "metrics.jsonl"
        rows = [row for row in files.read_rows(path) if row["step"] <= step and keep_row(row)]
        files.write_text(path, "".join(files.json_text(row) + "\n" for row in rows))
        self._file = files.open_to_append(path)

    @cached_property
    def _board(self) -> Any:
        # Not before the first row: where torch is installed this imports it.
        from tensorboardX import SummaryWriter

        return SummaryWriter(
            str(self._directory / "tensorboard"), purge_step=self._start + 1, write_to_disk=True
        )

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds a row.

        Args:
          step: the row's.
          numbers: {name: number}; one that is not finite becomes null.
        """
        if self._file is None:
            return
        self._file.write(files.json_text({"step": step, **numbers}) + "\n")
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds an image to TensorBoard.

        Args:
          step: the image's.
          name: the image's.
          image: uint8 [H, W, C].
        """
        if self._file is not None:
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        if self._file is None:
            return
        self._file.close()
        if "_board" in vars(self):
            self._board.close()
