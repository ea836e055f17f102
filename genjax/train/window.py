"""The train steps that no row of metrics has yet, as sums."""

import math
from collections.abc import Mapping
from typing import Any

from genjax import files

TIMINGS = ("images_per_second", "seconds")  # columns that differ between two equal runs


class Window:
    """The train steps since the last row of metrics, which become the next one.

    Sums are float64 and grow step by step: a row is the same however the steps were compiled
    together, and wherever the run was stopped.

    Args:
      start: step of the last row.
    """

    def __init__(self, start: int):
        self.restart(start)

    def restart(self, start: int) -> None:
        """Empties it.

        Args:
          start: step of the last row.
        """
        self.start, self.images, self.seconds = start, 0, 0.0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float], images: int, seconds: float) -> None:
        """Adds a train step.

        Args:
          values: {name: number}, those that are finite.
          images: of its batch.
          seconds: that it took.
        """
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.images += images
        self.seconds += seconds

    def row(self) -> dict[str, float]:
        """The row that the steps make.

        Returns:
          {name: mean}, and `TIMINGS`.
        """
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        if self.seconds:
            means["images_per_second"] = self.images / self.seconds
        return {**means, "seconds": self.seconds}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to be kept with the checkpoint of the same step.

        Returns:
          What `from_dict` takes.
        """
        return {**vars(self), "sums": dict(self.sums), "counts": dict(self.counts)}

    @classmethod
    def from_dict(cls, values: Any, step: int) -> "Window":
        """The window that was under way at a checkpoint.

        Args:
          values: what `as_dict` returned; None where it is not known, as earlier versions did not
            keep it.
          step: the checkpoint's.

        Returns:
          The window; one that begins at `step` where it is not known.
        """
        window = cls(step)
        if not isinstance(values, dict) or values.keys() != vars(window).keys():
            return window
        sums, counts, times = values["sums"], values["counts"], [values["seconds"]]
        if (
            all(files.is_count(n) for n in (values["start"], values["images"]))
            and values["start"] <= step
            and isinstance(sums, dict)
            and isinstance(counts, dict)
            and sums.keys() == counts.keys()
            and all(files.is_count(n) and n for n in counts.values())
            and all(type(x) is float and math.isfinite(x) for x in [*sums.values(), *times])
        ):
            vars(window).update(values)
        return window
