"""Faults that audits are to find, planted among real images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from genjax.data import drawing


def exact(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return images


def shifted(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """By 7 % of the side along both axes, edges repeated."""
    r = max(1, round(0.07 * images.shape[1]))
    padded = np.pad(images, ((0, 0), (r, r), (r, r), (0, 0)), "edge")
    height, width = images.shape[1:3]
    ways = generator.choice([0, 2 * r], (len(images), 2))
    return np.stack(
        [x[d : d + height, e : e + width] for x, (d, e) in zip(padded, ways, strict=True)]
    )


def mirrored(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return images[:, :, ::-1]


def recoloured(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Less contrast and more brightness; of colours the hue, turned by 60 to 300 degrees."""
    x, found = images.astype(np.float64), []
    for each in x:
        if x.shape[3] == 1:
            found.append(generator.uniform(0.5, 0.8) * each + generator.uniform(0, 50))
            continue
        angle = generator.uniform(np.pi / 3, 5 * np.pi / 3)
        axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
        grey = np.full((3, 3), 1 / 3)
        turn = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * grey + np.sin(angle) * axis
        found.append(each @ turn.T)
    return np.clip(np.round(found), 0, 255).astype(np.uint8)


def jpeg(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Written with quality 50 and read back."""
    found = []
    for each in images:
        file = io.BytesIO()
        Image.fromarray(each.squeeze(2) if each.shape[2] == 1 else each).save(
            file, "JPEG", quality=50
        )
        found.append(np.asarray(Image.open(file)).reshape(each.shape))
    return np.stack(found)


COPIES = (exact, shifted, mirrored, recoloured, jpeg)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """By a Gaussian of a standard deviation in pixels."""
    r = np.arange(-8, 9)
    weights = np.exp(-0.5 * (r / sigma) ** 2)
    weights /= weights.sum()
    x = np.pad(images.astype(np.float32), ((0, 0), (8, 8), (8, 8), (0, 0)), "edge")
    height, width = images.shape[1:3]
    x = sum(w * x[:, i : i + height] for i, w in enumerate(weights))
    x = sum(w * x[:, :, i : i + width] for i, w in enumerate(weights))
    return np.round(x).astype(np.uint8)


def checkered(images: np.ndarray, amplitude: float, period: int) -> np.ndarray:
    """A grid of brighter pixels, a period apart, without a change of the mean."""
    grid = np.zeros(images.shape[1:3])
    grid[::period, ::period] = 1
    grid = amplitude * (grid - grid.mean())
    return np.clip(np.round(images + grid[..., None]), 0, 255).astype(np.uint8)


def collapsed(
    labels: np.ndarray, n: int, modes: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Rows of images of `modes` classes alone; None: of one class nine in ten."""
    classes = generator.permutation(np.unique(labels))
    if modes is None:
        often = generator.random(n) < 0.9
        rows = [np.flatnonzero(labels == classes[0]), np.flatnonzero(labels != classes[0])]
        return np.where(often, generator.choice(rows[0], n), generator.choice(rows[1], n))
    return generator.choice(np.flatnonzero(np.isin(labels, classes[:modes])), n)


def colours_read(images: np.ndarray) -> np.ndarray:
    """The colour of each drawn shape, read off the pixels that differ most from the background."""
    x = images.astype(np.float32)
    edges = np.concatenate([x[:, :, :2], x[:, :, -2:]], 2).mean(2, keepdims=True)
    away = np.abs(x - edges).sum(3).reshape(len(x), -1)
    some = np.argsort(-away, 1)[:, :100]
    pixels = np.take_along_axis(x.reshape(len(x), -1, 3), some[..., None], 1).mean(1)
    paints = np.array(list(drawing.COLOURS.values()), np.float32)
    hue = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (pixels, paints)]
    return (hue[0] @ hue[1].T).argmax(1)
