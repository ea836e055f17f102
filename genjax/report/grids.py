"""Grids that tile many images into one, written as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genjax import files

BACKGROUND = 255  # grey level between the tiles


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Converts images to uint8, rounded to the nearest level and clipped; NaN becomes 0.

    Args:
      images: float [...], in 0..1.

    Returns:
      uint8 [...].
    """
    return np.rint(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Tiles images into one, row by row.

    Images of fewer than 64 pixels a side are enlarged by an integer factor, to be visible.

    Args:
      images: uint8 [n, H, W, C], C of 1, 3, or 4 with opacity, which is put on white.
      columns: images per row; None for as square a grid as n allows.
      gap: pixels between the images.

    Returns:
      uint8 [H', W', 3].
    """
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    zoom = max(1, 64 // max(height, width))
    tiles = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    if channels == 1:
        tiles = tiles.repeat(3, axis=3)
    if channels == 4:
        opaque = tiles[..., 3:] / 255
        tiles = np.rint(opaque * tiles[..., :3] + (1 - opaque) * 255).astype(np.uint8)
    rows = math.ceil(n / columns)
    step_y, step_x = height * zoom + gap, width * zoom + gap
    sheet = np.full((rows * step_y + gap, columns * step_x + gap, 3), BACKGROUND, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = gap + i // columns * step_y, gap + i % columns * step_x
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet


def tiles(sheet: np.ndarray, n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """The images of a sheet that `grid` made with its own number of columns and gap.

    Args:
      sheet: uint8 [H', W', 3].
      n: images in it.
      shape: (H, W, C) of one, C of 1 or 3.

    Returns:
      uint8 [n, H, W, C].

    Raises:
      ValueError: where the sheet is not of such images.
    """
    height, width, channels = shape
    zoom = max(1, 64 // max(height, width))
    blank = np.zeros((n, height, width, 1), np.uint8)
    if channels not in (1, 3) or grid(blank).shape != sheet.shape:
        raise ValueError(f"it is no sheet of {n} images {height}x{width}x{channels}")
    columns, gap = math.ceil(math.sqrt(n)), 2
    found = []
    for i in range(n):
        y = gap + i // columns * (height * zoom + gap)
        x = gap + i % columns * (width * zoom + gap)
        found.append(sheet[y : y + height * zoom : zoom, x : x + width * zoom : zoom, :channels])
    return np.stack(found)


def rows(labelled: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tiles sets of images, a row each, with their labels on the left.

    Args:
      labelled: {label: uint8 [n, H, W, C]}, all of one shape.

    Returns:
      uint8 [H', W', 3].
    """
    each = [grid(images, len(images)) for images in labelled.values()]
    font = ImageFont.load_default()
    left, above, right, below = font.getbbox(max(labelled, key=len))
    margin = math.ceil(right - left) + 8
    sheet = Image.new("RGB", (margin + each[0].shape[1], sum(len(row) for row in each)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for label, row in zip(labelled, each, strict=True):
        sheet.paste(Image.fromarray(row), (margin, top))
        draw.text((4, top + (len(row) - (below - above)) // 2), label, "black", font)
        top += len(row)
    return np.asarray(sheet)


def columns(titled: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tiles sets of images, a row per example, under the titles of their columns.

    Args:
      titled: {title: uint8 [m, k, H, W, C]}, k columns each; C of 1 or 3 in every set.

    Returns:
      uint8 [H', W', 3].
    """
    font = ImageFont.load_default()
    line = math.ceil(font.getbbox("by")[3]) + 4
    blocks = []
    for title, images in titled.items():
        block = grid(images.reshape(-1, *images.shape[2:]), images.shape[1])
        needed = math.ceil(font.getlength(title)) + 8
        wide = np.full((line + len(block), max(needed, block.shape[1]), 3), BACKGROUND, np.uint8)
        wide[line:, : block.shape[1]] = block
        drawn = Image.fromarray(wide)
        ImageDraw.Draw(drawn).text((4, 1), title, "black", font)
        blocks.append(np.asarray(drawn))
    return np.concatenate(blocks, 1)


def pairs(*sets: np.ndarray, columns: int = 8) -> np.ndarray:
    """Tiles sets in alternate rows, such as images over their reconstructions.

    Args:
      *sets: uint8 [n, H, W, C] each.
      columns: images per row.

    Returns:
      uint8 [H', W', 3].
    """
    rows: list[np.ndarray] = []
    for start in range(0, len(sets[0]), columns):
        for row in sets:
            part = row[start : start + columns]
            blank = np.full((columns - len(part), *part.shape[1:]), BACKGROUND, np.uint8)
            rows += [part, blank]
    return grid(np.concatenate(rows), columns)


def frames(images: np.ndarray, most: int = 60) -> np.ndarray:
    """Grids of the same images on their way from noise, one per step.

    Args:
      images: uint8 [n, T, H, W, C].
      most: steps to show, evenly spaced, both ends included.

    Returns:
      uint8 [t, H', W', 3].
    """
    return np.stack([grid(images[:, i]) for i in _some(images.shape[1], most)])


def strips(images: np.ndarray, most: int = 10) -> np.ndarray:
    """Tiles images on their way from noise, a row each.

    Args:
      images: uint8 [n, T, H, W, C].
      most: steps to show, evenly spaced, both ends included.

    Returns:
      uint8 [H', W', 3].
    """
    some = images[:, _some(images.shape[1], most)]
    return grid(np.concatenate(some), some.shape[1])


def _some(n: int, most: int) -> list[int]:
    return [round(i) for i in np.linspace(0, n - 1, min(n, most))]


def save_animation(path: Path, frames: np.ndarray, seconds: float = 4.0) -> None:
    """Writes a GIF atomically, which stands still at its end; a link at `path` is replaced.

    Args:
      path: the file; its folder is created.
      frames: uint8 [n, H, W, 3]; those without colour keep every grey level.
      seconds: of the movement.
    """
    grey = bool((frames == frames[..., :1]).all())
    images = [Image.fromarray(frame[..., 0] if grey else frame) for frame in frames]
    each = round(1000 * seconds / len(images))
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_open(path, "wb") as file:
        images[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=images[1:],
            duration=[each] * (len(images) - 1) + [2000],
            loop=0,
        )


def save(path: Path, image: np.ndarray) -> None:
    """Writes a PNG atomically; a link at `path` is replaced, not followed.

    Args:
      path: the file; its folder is created.
      image: uint8 [H, W, C].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_open(path, "wb") as file:
        Image.fromarray(image).save(file, "PNG", optimize=True)
