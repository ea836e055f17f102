"""The rows of a metrics.jsonl from anywhere, a line at a time; standard library only."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST = 1 << 16  # bytes of a line


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Each row {"step": int, name: number, …}; lines that are none are left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and is_count(row.get("step")):
                yield {k: v for k, v in row.items() if type(v) is float or is_count(v)}


def is_count(value: Any) -> bool:
    """Whether it is a whole number that fits into 64 bits."""
    return type(value) is int and 0 <= value < 1 << 63
