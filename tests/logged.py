"""What a module logs while a block of code runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
