"""Plots as images, drawn by Pillow alone."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _LEFT, _BELOW = 560, 320, 60, 44
_LINE, _BAND, _AXIS = (0, 121, 107), (178, 223, 219), (120, 120, 120)


def ratio(x: np.ndarray, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A ratio to 1 with a band around it, on a logarithmic axis.

    Args:
      x: frequencies, cycles per pixel, [k].
      value: the ratio at each, [k].
      low: lower ends of the band, [k].
      high: upper ends, [k].

    Returns:
      uint8 [H, W, 3].
    """
    logs = [np.log10(np.clip(each, 1e-4, 1e4)) for each in (value, low, high)]
    top = max(0.5, *(float(np.abs(each).max()) for each in logs)) * 1.1
    right, base = _WIDTH - 16, _HEIGHT - _BELOW

    def at(place: float, log: float) -> tuple[float, float]:
        return (
            _LEFT + place / 0.5 * (right - _LEFT),
            16 + (top - log) / (2 * top) * (base - 16),
        )

    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    band = [at(a, b) for a, b in zip(x, logs[2], strict=True)]
    band += [at(a, b) for a, b in zip(x[::-1], logs[1][::-1], strict=True)]
    draw.polygon(band, fill=_BAND)
    for each in _ticks(top):
        draw.line([at(0, each), at(0.5, each)], fill=_AXIS if each == 0 else (225, 225, 225))
        draw.text((8, at(0, each)[1] - 6), f"{10**each:.3g}", "black", font)
    for place in (0, 0.1, 0.2, 0.3, 0.4, 0.5):
        draw.text((at(place, 0)[0] - 8, base + 4), f"{place:g}", "black", font)
    draw.line([at(a, b) for a, b in zip(x, logs[0], strict=True)], fill=_LINE, width=2)
    title = "power of the samples / power of real images, by frequency in cycles per pixel"
    draw.text((_LEFT, base + 22), title, "black", font)
    return np.asarray(image)


def _ticks(top: float) -> list[float]:
    """Logarithms of round ratios within the axis."""
    steps = [1.0, 2.0, 3.0, 4.0] if top > 1.3 else [0.30103, 0.69897, 1.0]
    return [0.0] + [sign * step for step in steps for sign in (1, -1) if step < top]
