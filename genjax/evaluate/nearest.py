"""Nearest training images of many queries, over training sets of any size in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

BLOCK = 1024  # images that are compared at a time


class Gallery(Protocol):
    """Images by index: an array uint8 [N, H, W, C], or what reads them from a disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def blocks(gallery: Gallery | np.ndarray, size: int = BLOCK) -> Iterator[np.ndarray]:
    """All images of a gallery, or their features, in order.

    Args:
      gallery: the images, or any array.
      size: images per block; the last may have fewer.

    Yields:
      uint8 [b, H, W, C], or rows of the array.
    """
    for start in range(0, len(gallery), size):
        yield gallery[np.arange(start, min(start + size, len(gallery)))]


def nearest(
    queries: np.ndarray,
    gallery: Iterable[np.ndarray],
    k: int = 1,
    *,
    exclude: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of a gallery for each query, by Euclidean distance in float32.

    Args:
      queries: float [n, d].
      gallery: the rows in blocks, float [b, d] each, none larger than the first.
      k: neighbours per query; at most as many as there are rows.
      exclude: a row per query that does not count, such as the query itself, int [n].
      progress: called after each block with the number of rows done.

    Returns:
      Distances, rising, float32 [n, k]; the rows, int64 [n, k].

    Raises:
      ValueError: where the gallery has fewer than k rows.
    """
    barred = jnp.asarray(np.full(len(queries), -1) if exclude is None else exclude, jnp.int32)
    best, rows = jnp.full((len(queries), k), jnp.inf), jnp.full((len(queries), k), -1)
    q, centre, size, done = jnp.zeros((0, 0)), np.zeros(0), 0, 0
    for block in gallery:
        if not size:
            # Around the mean less is cancelled in |q|² + |b|² − 2 q·b.
            size, centre = len(block), block.mean(0, dtype=np.float32)
            q = jnp.asarray(queries, jnp.float32) - centre[None]
        padded = np.zeros((size, block.shape[1]), np.float32)
        padded[: len(block)] = block - centre
        best, rows = _merged(q, best, rows, padded, len(block), done, barred)
        done += len(block)
        if progress:
            progress(done)
    squared = np.asarray(best)
    if not np.isfinite(squared).all():
        raise ValueError(f"there are {done} rows to search: fewer than {k} neighbours of a query")
    return np.sqrt(np.maximum(squared, 0)), np.asarray(rows).astype(np.int64)


@jax.jit
def _merged(
    q: Array, best: Array, rows: Array, block: Array, count: int, first: int, barred: Array
) -> tuple[Array, Array]:
    squared = (q**2).sum(1)[:, None] + (block**2).sum(1)[None] - 2 * q @ block.T
    place = first + jnp.arange(len(block))
    allowed = (place < first + count)[None] & (place[None] != barred[:, None])
    squared = jnp.where(allowed, squared, jnp.inf)
    return smallest(best, rows, squared, place)


@partial(jax.jit, inline=True)
def smallest(best: Array, rows: Array, values: Array, place: Array) -> tuple[Array, Array]:
    """The k smallest of those known and further ones.

    Args:
      best: known values, [n, k].
      rows: their rows, [n, k].
      values: further ones, [n, b].
      place: the rows of these, [b].

    Returns:
      The smallest, rising, [n, k]; their rows, [n, k].
    """
    values = jnp.concatenate([best, values], 1)
    places = jnp.concatenate([rows, jnp.broadcast_to(place, (len(best), len(place)))], 1)
    negative, which = jax.lax.top_k(-values, best.shape[1])
    return -negative, jnp.take_along_axis(places, which, 1)
