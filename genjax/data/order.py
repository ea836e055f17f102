"""The order in which a run sees its images: a pure function of (seed, position)."""

from functools import lru_cache

import numpy as np

from genjax.data.errors import DataError


# Eight epochs' permutations: enough for a batch that spans epochs, read by a few threads at once.
@lru_cache(maxsize=8)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of n images in one epoch, int64 [n].

    The ranks of n raw 64-bit words of Philox keyed by (seed, epoch): the raw stream is fixed by
    Salmon et al. (2011), where NumPy may change `Generator.permutation` between versions.
    """
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(n)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False  # the cache hands the same array to everyone
    return order


def positions_to_indices(seed: int, start: int, count: int, n: int) -> np.ndarray:
    """Image indices at the positions start, …, start + count - 1 of the endless run, int64 [count].

    Position p is image `permutation(seed, p // n, n)[p % n]`: each image once an epoch, whether or
    not the batch divides n.
    """
    indices = np.empty(count, np.int64)
    done = 0
    while done < count:
        epoch, offset = divmod(start + done, n)
        part = permutation(seed, epoch, n)[offset : offset + count - done]
        indices[done : done + len(part)] = part
        done += len(part)
    return indices


def batch_indices(
    seed: int,
    b: int,
    size: int,
    n: int,
    *,
    scan_steps: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> np.ndarray:
    """Indices of the batches b, … that this process feeds, int64 [scan_steps, size / P].

    Process k of P gets rows k * size / P to (k + 1) * size / P of every batch. Raises `DataError`
    where the batch does not divide over the processes.
    """
    if size < 1 or size % process_count:
        raise DataError(
            f"a batch of {size} does not divide over {process_count} processes:"
            f" take a positive multiple of {process_count}"
        )
    if b < 0 or seed < 0:
        raise DataError(f"seed and batch number must not be negative, got {seed} and {b}")
    rows = size // process_count
    whole = positions_to_indices(seed, b * size, scan_steps * size, n).reshape(scan_steps, size)
    return whole[:, process_index * rows : (process_index + 1) * rows]
