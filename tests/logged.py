"""What a module logs while a block of code runs, and what a run writes to metrics.jsonl."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genjax.files import read_rows
from genjax.train.window import TIMINGS


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of metrics without the columns in which two equal runs differ."""
    return [{name: x for name, x in row.items() if name not in TIMINGS} for row in rows]


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, untimed: what one run is compared with another by."""
    return untimed(read_rows(directory / "metrics.jsonl"))


@contextmanager
def logged_lines(name: str, level: int = logging.INFO) -> Iterator[list[str]]:
    """Yields the list that the messages of one logger are added to."""
    lines: list[str] = []
    logger, handler = logging.getLogger(name), logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
