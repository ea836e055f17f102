"""The order in which a run reads its images: a pure function of (seed, position)."""

from functools import lru_cache

import numpy as np

from genjax.data.errors import DataError


# Eight permutations: enough for batches that span epochs, read by a few threads at once.
@lru_cache(maxsize=8)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the images in one epoch.

    The argsort of n raw 64-bit words of Philox keyed by (seed, epoch): the algorithm defines the
    raw stream, whereas NumPy may change `Generator.permutation` between versions.

    Args:
      seed: of the run.
      epoch: from 0.
      n: number of images.

    Returns:
      int64 [n], read-only.

    References:
      Salmon, Moraes, Dror & Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
    """
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(n)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False  # the cache returns the same array to all callers
    return order


def positions_to_indices(seed: int, start: int, count: int, n: int) -> np.ndarray:
    """Image indices at consecutive positions of an endless run.

    Position p is image `permutation(seed, p // n, n)[p % n]`: each image once per epoch, whether or
    not the batch size divides n.

    Args:
      seed: of the run.
      start: the first position.
      count: number of positions.
      n: number of images.

    Returns:
      int64 [count].
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
    """Image indices of this process's share of consecutive batches.

    Args:
      seed: of the run.
      b: number of the first batch, from 0.
      size: images per batch, over all processes.
      n: number of images.
      scan_steps: number of batches.
      process_index: k; process k of P reads rows k · size / P to (k + 1) · size / P.
      process_count: P.

    Returns:
      int64 [scan_steps, size / P].

    Raises:
      DataError: where the batch does not divide over the processes, or a number is negative.
    """
    if size < 1 or size % process_count:
        raise DataError(
            f"a batch of {size} does not divide over {process_count} processes:"
            f" take a positive multiple of {process_count}"
        )
    if b < 0 or seed < 0:
        raise DataError(f"seed and batch number must not be negative, got {seed} and {b}")
    rows = size // process_count
    batches = positions_to_indices(seed, b * size, scan_steps * size, n).reshape(scan_steps, size)
    return batches[:, process_index * rows : (process_index + 1) * rows]
