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
            if isinstance(row, dict) and type(row.get("step")) is int:
                yield {k: v for k, v in row.items() if type(v) in (int, float)}
