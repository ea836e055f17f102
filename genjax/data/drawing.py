"""Procedurally drawn images: one shape on a background, with all factors known; NumPy only."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

EDGE = 64  # height and width of an image, pixels

COLOURS = {
    "red": (219, 50, 54),
    "orange": (242, 131, 34),
    "yellow": (247, 202, 45),
    "green": (61, 165, 82),
    "teal": (23, 162, 165),
    "blue": (45, 98, 204),
    "purple": (126, 66, 178),
    "pink": (236, 103, 160),
}
# The colours at the top and at the bottom of the image.
BACKGROUNDS = {
    "dawn": ((255, 236, 210), (252, 190, 170)),
    "sea": ((214, 240, 247), (120, 186, 214)),
    "meadow": ((236, 246, 214), (158, 202, 132)),
    "sand": ((250, 244, 228), (220, 200, 164)),
    "dusk": ((122, 110, 152), (60, 52, 92)),
    "night": ((38, 46, 72), (12, 16, 30)),
}
SIZES = {"small": 9.0, "medium": 13.0, "large": 18.0}  # mean radius, pixels
PLACES = tuple(
    f"{row} {column}"
    for row in ("top", "middle", "bottom")
    for column in ("left", "centre", "right")
)


class Factors(NamedTuple):
    """The factors of n images, [n] each: class numbers int64, the others float.

    Attributes:
      shape: index into `SHAPES`.
      colour: index into `COLOURS`.
      size: index into `SIZES`.
      background: index into `BACKGROUNDS`.
      place: index into `PLACES`, the ninth of the image in which the centre (x, y) lies.
      x: of the centre, pixels from the left.
      y: of the centre, pixels from the top.
      radius: pixels.
      angle: radians.
    """

    shape: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    background: np.ndarray
    place: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def factors(indices: np.ndarray, stream: int) -> Factors:
    """Draws the factors of images uniformly.

    Those of an image come from Philox keyed by (index, stream) alone, so that they do not depend on
    how many are drawn. All are independent except the place: the centre lies where the complete
    shape fits into the image, nearer to the middle for a larger one.

    Args:
      indices: of the images, [n].
      stream: a number per split, such as 0 for train and 1 for test.

    Returns:
      The factors of the n images.
    """
    raw = [np.random.Philox(key=np.array([i, stream], np.uint64)).random_raw(8) for i in indices]
    u = (np.stack(raw) >> np.uint64(11)) * 2.0**-53  # [n, 8] in [0, 1)
    shape, colour, size, background = (
        np.floor(u[:, k] * count).astype(np.int64)
        for k, count in enumerate((len(SHAPES), len(COLOURS), len(SIZES), len(BACKGROUNDS)))
    )
    radius = np.array(list(SIZES.values()))[size] + 2 * (u[:, 4] - 0.5)
    margin = radius + 2
    x, y = margin + u[:, 5] * (EDGE - 2 * margin), margin + u[:, 6] * (EDGE - 2 * margin)
    place = 3 * np.floor(3 * y / EDGE).astype(np.int64) + np.floor(3 * x / EDGE).astype(np.int64)
    angle = (u[:, 7] - 0.5) * np.pi / 3
    return Factors(shape, colour, size, background, place, x, y, radius, angle)


def _fold(p: np.ndarray, q: np.ndarray, corners: int) -> tuple[np.ndarray, np.ndarray]:
    """Folds the plane, by rotation and reflection, onto the half sector at the upward corner."""
    sector = 2 * math.pi / corners
    angle = np.arctan2(p, -q)
    angle = np.abs(angle - sector * np.round(angle / sector))
    r = np.hypot(p, q)
    return r * np.cos(angle), r * np.sin(angle)


def _star_like(p: np.ndarray, q: np.ndarray, corners: int, inner: float) -> np.ndarray:
    """Distance to the line from a corner at radius 1 to the notch at radius `inner`."""
    a, b = _fold(p, q, corners)
    notch = inner * math.cos(math.pi / corners), inner * math.sin(math.pi / corners)
    length = math.hypot(1 - notch[0], notch[1])
    return ((a - 1) * notch[1] + b * (1 - notch[0])) / length


def _polygon(p: np.ndarray, q: np.ndarray, corners: int) -> np.ndarray:
    return _star_like(p, q, corners, math.cos(math.pi / corners))


def _square(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(p), np.abs(q)) - 0.7


def _cross(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    long, short = np.maximum(np.abs(p), np.abs(q)), np.minimum(np.abs(p), np.abs(q))
    return np.maximum(long - 0.95, short - 0.32)


def _heart(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """A square standing on its lower corner, with a half disc on each of the two upper sides."""
    scale, tip = 1.45, 0.85
    p, q = np.abs(p) / scale, (tip - q) / scale  # the tip at (0, 0), the lobes above
    disc = np.hypot(p - 0.25, q - 0.75) - math.sqrt(2) / 4
    onto = np.maximum(p + q, 0) / 2
    side = np.minimum(np.hypot(p, q - 1), np.hypot(p - onto, q - onto)) * np.sign(p - q)
    return scale * np.where(p + q > 1, disc, side)


# Signed distance to the outline of a shape of radius 1, negative inside; q points down.
SHAPES = {
    "circle": lambda p, q: np.hypot(p, q) - 0.9,
    "square": _square,
    "triangle": lambda p, q: _polygon(p, q, 3),
    "hexagon": lambda p, q: _polygon(p, q, 6),
    "star": lambda p, q: _star_like(p, q, 5, 0.45),
    "heart": _heart,
    "cross": _cross,
    "ring": lambda p, q: np.abs(np.hypot(p, q) - 0.68) - 0.25,
}


def _distance(f: Factors, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Signed distance in pixels from the outline, at p, q [n, H, W] pixels from the centre."""
    cos, sin = np.cos(f.angle)[:, None, None], np.sin(f.angle)[:, None, None]
    radius = f.radius[:, None, None]
    p, q = (cos * p + sin * q) / radius, (cos * q - sin * p) / radius
    distance = np.empty_like(p)
    for k, outline in enumerate(SHAPES.values()):
        of_kind = f.shape == k
        distance[of_kind] = outline(p[of_kind], q[of_kind])
    return distance * radius


def draw(f: Factors) -> np.ndarray:
    """Draws images; edges are anti-aliased by their distance in pixels.

    Args:
      f: the factors of n images.

    Returns:
      uint8 [n, 64, 64, 3].
    """
    f = Factors(*(v.astype(np.float32) if v.dtype.kind == "f" else v for v in f))  # for speed
    centre = np.arange(EDGE, dtype=np.float32) + np.float32(0.5)
    p = centre[None, None, :] - f.x[:, None, None]  # [n, 1, W]
    q = centre[None, :, None] - f.y[:, None, None]  # [n, H, 1]
    p, q = np.broadcast_arrays(p, q)

    tones = np.array(list(BACKGROUNDS.values()), np.float32)[f.background]  # [n, 2, 3]
    down = (centre / EDGE)[None, :, None, None]
    image = tones[:, None, None, 0] * (1 - down) + tones[:, None, None, 1] * down
    image = np.broadcast_to(image, (len(f.x), EDGE, EDGE, 3))  # [n, H, W, 3]

    shadow = np.clip(0.5 - _distance(f, p - 1.5, q - 2.5) / 5, 0, 1)
    image = image * (1 - 0.3 * shadow[..., None])

    lit = 1 - 0.22 * (p + q) / f.radius[:, None, None]  # light from the top left
    paint = np.array(list(COLOURS.values()), np.float32)[f.colour][:, None, None]
    cover = np.clip(0.5 - _distance(f, p, q), 0, 1)[..., None]
    image = image * (1 - cover) + paint * lit[..., None] * cover
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
