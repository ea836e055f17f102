"""Batches prefetched by threads of grain."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetched(
    read: Callable[[int], T], start: int, stop: int | None, step: int, *, light: bool
) -> Iterator[T]:
    """Prefetches batches.

    Args:
      read: index of a batch -> the batch.
      start: the first index.
      stop: the end of the indices, excluded; None for no end.
      step: between indices.
      light: whether reads only copy from RAM, for which one thread is enough. Otherwise as many
        threads as cores decode one batch each.

    Yields:
      read(start), read(start + step), … in order.
    """
    if stop is not None and start >= stop:
        return
    yield read(start)  # before the slow import of grain
    import grain

    threads = 1 if light else os.cpu_count() or 1
    numbers = grain.MapDataset.range(start + step, sys.maxsize if stop is None else stop, step)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    yield from numbers.map(read).to_iter_dataset(options)
