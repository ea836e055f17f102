"""The numbers and pictures of a run: metrics.jsonl and TensorBoard events."""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


class MetricsWriter:
    """Writes rows {"step": …, name: number, …} to metrics.jsonl and TensorBoard.

    directory: the run's. step: where the run (re)starts; later rows, of a run that was killed
    after its last checkpoint, are dropped, and so are those that `kept(row)` denies, so that a
    resumed run leaves the rows of one uninterrupted. enabled: False on every process but the first.
    """

    def __init__(
        self,
        directory: Path,
        step: int,
        enabled: bool,
        kept: Callable[[dict[str, Any]], bool] = lambda row: True,
    ):
        self._directory, self._start = directory, step
        self._file = None
        if not enabled:
            return
        path = directory / "metrics.jsonl"
        rows = [row for row in read(path) if row["step"] <= step and kept(row)]
        half = path.with_suffix(".half")
        half.write_text("".join(json.dumps(row) + "\n" for row in rows))
        half.replace(path)
        self._file = path.open("a", buffering=1)

    @cached_property
    def _board(self) -> Any:
        # Not before the first row: where torch is installed this imports the whole of it.
        from tensorboardX import SummaryWriter

        return SummaryWriter(
            str(self._directory / "tensorboard"), purge_step=self._start + 1, write_to_disk=True
        )

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """image: uint8 [H, W, C]."""
        if self._file is not None:
            self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        if self._file is None:
            return
        self._file.close()
        if "_board" in vars(self):
            self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file such as metrics.jsonl, up to the first that a kill cut short."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows
