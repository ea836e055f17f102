"""Copies of training images among others, found although shifted, mirrored or recoloured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from genjax.evaluate import nearest

CANDIDATES = 16  # training images per query that are compared at the finer resolution
COARSE, FINE = 16, 32  # pixels of the longer side
SHIFT = 0.12  # of the longer side, in each direction
_CHUNK = 64  # queries at a time
FLAT = 2e-3  # standard deviation of brightness in 0..1 below which an image shows nothing
_LUMINANCE = (0.299, 0.587, 0.114)


class Matches(NamedTuple):
    """The best matches of n queries among training images.

    Attributes:
      distances: rising, 0 for a copy, 1 where nothing of the query is explained, float32 [n, k].
      rows: of the training images, int64 [n, k].
    """

    distances: np.ndarray
    rows: np.ndarray


def reduced(images: np.ndarray, side: int) -> Array:
    """Images resized so that the longer side has at most so many pixels.

    Args:
      images: uint8 [n, H, W, C].
      side: pixels.

    Returns:
      float32 [n, h, w, C], in 0..1; averaged over areas where they shrink.
    """
    return _reduced(jnp.asarray(images), side)


@partial(jax.jit, static_argnums=1)
def _reduced(images: Array, side: int) -> Array:
    n, height, width, channels = images.shape
    scale = min(1.0, side / max(height, width))
    shape = (n, max(1, round(height * scale)), max(1, round(width * scale)), channels)
    return jax.image.resize(images.astype(jnp.float32) / 255, shape, "linear", antialias=True)


def luminance(images: Array) -> Array:
    """The brightness of images.

    Args:
      images: [n, h, w, C]; of three or more channels the first three are red, green and blue.

    Returns:
      [n, h, w].
    """
    if images.shape[3] < 3:
        return images.mean(3)
    return images[..., :3] @ jnp.array(_LUMINANCE, images.dtype)


def matches(
    images: np.ndarray,
    training: nearest.Gallery,
    *,
    candidates: int = CANDIDATES,
    progress: Callable[[int], None] | None = None,
) -> Matches:
    r"""The training images that explain each image best, up to shift, reflection and recolouring.

    The distance of x from y is what no affine function of y's colours explains of x's brightness,
    at the best of all shifts T, with and without reflection:

    $$
    d(x, y) = \min_{T, a, b}
      \frac{\lVert T x - a^\top y - b \rVert}{\lVert T x - \overline{T x} \rVert}
    $$

    All training images are compared at 16 pixels a side; the best `candidates` of each again at 32,
    over all shifts of up to 12 % of the side.

    Args:
      images: uint8 [n, H, W, C].
      training: the images that may have been copied, of the same shape.
      candidates: k, matches per image; fewer where there are fewer training images.
      progress: called after each block with the number of training images done.

    Returns:
      The matches.
    """
    k, size = min(candidates, len(training)), min(nearest.BLOCK, len(training))
    chunk = min(_CHUNK, len(images))
    starts = range(0, len(images), chunk)
    queries = [_queries(_filled(images[i : i + chunk], chunk)) for i in starts]
    best = [(jnp.full((chunk, k), jnp.inf), jnp.full((chunk, k), -1)) for _ in starts]
    done = 0
    for block in nearest.blocks(training, size):
        planes = _planes(reduced(_filled(block, size), COARSE))
        place = np.arange(done, done + size)
        place[len(block) :] = -1
        best = [_closer(q, planes, *b, place) for q, b in zip(queries, best, strict=True)]
        done += len(block)
        if progress:
            progress(done)
    rows = np.concatenate([np.asarray(each) for _, each in best])[: len(images)]
    return _refined(images, training, rows.astype(np.int64), chunk)


def _filled(images: np.ndarray, size: int) -> np.ndarray:
    """The images and as many of the first of them as lack, so that one program serves all."""
    return np.concatenate([images, np.repeat(images[:1], size - len(images), 0)])


@jax.jit
def _queries(images: Array) -> Array:
    """[n, H, W, C] -> each image at all coarse shifts and reflections, [n, T, P]."""
    x = luminance(_reduced(images, COARSE))
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return _crops(x, 1)


def _crops(x: Array, radius: int) -> Array:
    """[n, h, w] -> the middle at each shift and reflection, of unit norm, [n, T, P]."""
    height, width = (side - 2 * radius for side in x.shape[1:])
    each = [
        jax.lax.dynamic_slice_in_dim(
            jax.lax.dynamic_slice_in_dim(y, down, height, 1), right, width, 2
        )
        for y in (x, x[:, :, ::-1])
        for down in range(2 * radius + 1)
        for right in range(2 * radius + 1)
    ]
    return _unit(jnp.stack(each, 1).reshape(len(x), len(each), height * width))


def _unit(x: Array) -> Array:
    """Rows without their mean, of norm 1; flat ones, which nothing can be a copy of, are 0."""
    x = x - x.mean(-1, keepdims=True)
    norm = jnp.sqrt((x**2).sum(-1, keepdims=True))
    return jnp.where(norm > FLAT * x.shape[-1] ** 0.5, x / jnp.maximum(norm, 1e-9), 0)


@jax.jit
def _planes(images: Array) -> Array:
    """[n, h, w, C] -> an orthonormal basis of the centred colours of each, [n, C, P]."""
    n, height, width, channels = images.shape
    x = images.reshape(n, height * width, channels).swapaxes(1, 2)
    x = x - x.mean(2, keepdims=True)
    values, vectors = jnp.linalg.eigh(x @ x.swapaxes(1, 2))
    # A direction that hardly varies is noise: of a grey image in three channels, say.
    least = jnp.maximum(1e-3 * values[:, -1:], FLAT**2 * x.shape[2])
    scale = jnp.where(values > least, 1 / jnp.sqrt(jnp.maximum(values, 1e-12)), 0)
    return (vectors * scale[:, None]).swapaxes(1, 2) @ x


@jax.jit
def _closer(
    queries: Array, planes: Array, best: Array, rows: Array, place: Array
) -> tuple[Array, Array]:
    """The best matches of those known and those of a block, of which those of place -1 are none."""
    n, shifts, size = queries.shape
    flat = queries.reshape(-1, size) @ planes.reshape(-1, size).T
    explained = (flat**2).reshape(n, shifts, *planes.shape[:2]).sum(3).max(1)
    return nearest.smallest(best, rows, jnp.where(place[None] < 0, jnp.inf, 1 - explained), place)


def _refined(
    images: np.ndarray, training: nearest.Gallery, rows: np.ndarray, chunk: int
) -> Matches:
    """The candidates compared at the finer resolution, the best first."""
    found = np.empty(rows.shape, np.float32)
    for i in range(0, len(images), chunk):
        which = rows[i : i + chunk]
        theirs = _filled(training[which.ravel()], chunk * rows.shape[1])
        distances = _aligned(_filled(images[i : i + chunk], chunk), theirs)
        found[i : i + chunk] = np.asarray(distances)[: len(which)]
    order = np.argsort(found, 1, kind="stable")
    return Matches(np.take_along_axis(found, order, 1), np.take_along_axis(rows, order, 1))


@jax.jit
def _aligned(images: Array, theirs: Array) -> Array:
    """[n, H, W, C] and k candidates of each, [n k, H, W, C] -> distances [n, k]."""
    x, y = luminance(_reduced(images, FINE)), _reduced(theirs, FINE)
    radius = min(round(SHIFT * max(x.shape[1:])), (min(x.shape[1:]) - 1) // 4)
    height, width = (side - 2 * radius for side in x.shape[1:])
    middle = y[:, radius : radius + height, radius : radius + width]
    planes = _planes(middle).reshape(len(x), -1, y.shape[3], height * width)
    dots = jnp.einsum("ntp,nkcp->ntkc", _crops(x, radius), planes)
    return jnp.sqrt(jnp.maximum(1 - (dots**2).sum(3).max(1), 0))
