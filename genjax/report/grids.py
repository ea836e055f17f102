"""Grids of many images in one, written as PNG."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from genjax import files

BACKGROUND = 255  # the colour between the tiles


def to_uint8(images: np.ndarray) -> np.ndarray:
    """float [...] in 0..1 -> uint8, rounded to the nearest; what lies outside is clipped."""
    return np.rint(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """uint8 [n, H, W, C] with C 1 or 3 -> one picture uint8 [H', W', 3], row by row.

    columns: None for as square a grid as n allows. Small images are enlarged by whole pixels, so
    that a person can see them.
    """
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    zoom = max(1, 64 // max(height, width))
    tiles = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    if channels == 1:
        tiles = tiles.repeat(3, axis=3)
    rows = math.ceil(n / columns)
    step_y, step_x = height * zoom + gap, width * zoom + gap
    sheet = np.full((rows * step_y + gap, columns * step_x + gap, 3), BACKGROUND, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = gap + i // columns * step_y, gap + i % columns * step_x
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet


def pairs(above: np.ndarray, below: np.ndarray, columns: int = 8) -> np.ndarray:
    """Two sets uint8 [n, H, W, C] in alternate rows: images over their reconstructions."""
    rows: list[np.ndarray] = []
    for start in range(0, len(above), columns):
        for row in (above, below):
            part = row[start : start + columns]
            blank = np.full((columns - len(part), *part.shape[1:]), BACKGROUND, np.uint8)
            rows += [part, blank]
    return grid(np.concatenate(rows), columns)


def save(path: Path, image: np.ndarray) -> None:
    """Writes a PNG whole, or not at all; a link of its name is replaced, not followed.

    Args:
      path: the file; its folder is made.
      image: uint8 [H, W, C].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_open(path, "wb") as file:
        Image.fromarray(image).save(file, "PNG", optimize=True)
