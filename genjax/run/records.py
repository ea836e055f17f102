"""What the files of a run hold, read as a stranger's: texts are bounded, numbers are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import printable
from genjax.train import window

# Files of a run directory, each of JSON lines with a step; the last one is an object.
SCORES, FINDINGS, FAULTS, PROFILES, STARTS = (
    f"{stem}.jsonl" for stem in ("scores", "findings", "faults", "profiles", "starts")
)
CODES = "codes.json"
MOST_NAMES = 200  # metrics of one run
MOST_TEXT = 600  # characters


@dataclass
class Column:
    """The values of one metric.

    Attributes:
      steps: in order.
      values: as many, finite.
    """

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows {"step": count, …} of a file, in order of their steps.

    Args:
      path: of JSON lines.

    Returns:
      The rows; none where the file is missing or cannot be read.
    """
    try:
        found = files.read_lines(path)[0]
    except OSError:
        return []
    return sorted((row for row, _ in found), key=lambda row: row["step"])


def metrics(folder: Path) -> dict[str, Column]:
    """The metrics of a run or a stage.

    Args:
      folder: where metrics.jsonl lies.

    Returns:
      {name: its values}, without those that are not finite.
    """
    found: dict[str, Column] = {}
    for row in rows(folder / "metrics.jsonl"):
        for name in row.keys() - {"step", "crc"}:
            value = number(row, name)
            name = printable(name[:MOST_TEXT])
            if math.isfinite(value) and (name in found or len(found) < MOST_NAMES):
                column = found.setdefault(name, Column())
                column.steps.append(row["step"])
                column.values.append(value)
    return found


def seconds(columns: Mapping[str, Column]) -> float:
    """The time that the recorded steps took.

    Args:
      columns: what `metrics` returns.

    Returns:
      Seconds.
    """
    return sum(columns[window.TIMINGS[1]].values) if window.TIMINGS[1] in columns else 0.0


def number(values: Any, name: str) -> float:
    """A number of a row.

    Args:
      values: the row; anything else has none.
      name: of the entry.

    Returns:
      The number; NaN where there is none, or one beyond float.
    """
    value = values.get(name) if isinstance(values, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def text(values: Any, *names: str) -> str:
    """A text in nested dicts.

    Args:
      values: the outermost.
      *names: of the entries on the way.

    Returns:
      The text, printable and bounded; "" where there is none.
    """
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    if isinstance(values, bool) or not isinstance(values, str | int | float):
        return ""
    try:
        return printable(str(values)[:MOST_TEXT])
    except ValueError:  # an integer of thousands of digits
        return ""
