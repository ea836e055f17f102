"""Batches read ahead of the step by grain's threads."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetched(
    read: Callable[[int], T], start: int, stop: int | None, step: int, *, light: bool
) -> Iterator[T]:
    """Reads batches ahead.

    Args:
      read: number of a batch -> the batch.
      start: the first number.
      stop: the end of the numbers, excluded; None for no end.
      step: between numbers.
      light: whether reads are copies out of RAM, with which one thread keeps up. Others decode: as
        many threads as cores, one batch each.

    Yields:
      read(start), read(start + step), … in order.
    """
    if stop is not None and start >= stop:
        return
    yield read(start)  # waited for in any case, unlike what it takes to import grain
    import grain

    threads = 1 if light else os.cpu_count() or 1
    numbers = grain.MapDataset.range(start + step, sys.maxsize if stop is None else stop, step)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    yield from numbers.map(read).to_iter_dataset(options)
