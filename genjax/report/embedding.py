"""Image files as data URIs, small enough that a page holds a hundred."""

from __future__ import annotations

import base64
import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from genjax.errors import first_line
from genjax.report.page import Frame

MOST_FILE = 64 << 20  # bytes of an image that is read
MOST_SIDE = 1600  # pixels; larger ones are scaled down
MOST_EXACT = 160 << 10  # bytes of PNG; larger ones become WebP
QUALITY = 88


class Embedder:
    """Encodes image files, each once: a page that is written again encodes what is new.

    What is no PNG, too large, a link, or damaged is skipped.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], tuple[str, int, int] | None]] = {}

    def frame(self, path: Path, caption: str, step: int = 0) -> Frame | None:
        """An image of a page.

        Args:
          path: of a PNG.
          caption: below it.
          step: where it belongs on a slider.

        Returns:
          The image; None where the file is not one that can be shown.
        """
        try:
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_FILE:
                return None
            version = about.st_mtime_ns, about.st_size
            known = self._known.get(path)
            if known is None or known[0] != version:
                known = self._known[path] = version, encoded(path)
        except OSError:
            return None
        return Frame(caption, *known[1], step) if known[1] else None


def encoded(path: Path) -> tuple[str, int, int] | None:
    """An image file as a data URI.

    Sheets of enlarged images are stored as small as they were, without loss; a page enlarges them
    again. Large ones are scaled down and stored as WebP.

    Args:
      path: of a PNG.

    Returns:
      (URI, width, height), the size that of the file; None where it cannot be decoded.
    """
    try:
        pixels = read(path)
    except ValueError:
        return None
    height, width = pixels.shape[:2]
    uri = _png(_shrunk(pixels))
    if len(uri) * 3 // 4 > MOST_EXACT:
        image = Image.fromarray(pixels)
        image.thumbnail((MOST_SIDE, MOST_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY)
        uri = _uri("webp", buffer.getvalue())
    return uri, width, height


def read(path: Path) -> np.ndarray:
    """An image file as a page shows it: without opacity, on white.

    Args:
      path: of a PNG.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: where it cannot be decoded, or has more pixels than Pillow takes for an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as file:
                return np.asarray(_flat(file))
    except Exception as error:  # a damaged file: decoders raise much
        raise ValueError(f"it is no PNG that can be decoded: {first_line(error)}") from None


def array_uri(image: np.ndarray) -> str:
    """An image as a data URI, without loss.

    Args:
      image: uint8 [H, W, C], C of 1, 3 or 4.

    Returns:
      The URI.
    """
    return _png(image[..., 0] if image.shape[-1] == 1 else image)


def _flat(image: Image.Image) -> Image.Image:
    """The image in RGB, on white where it is transparent."""
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Pixels without a repetition by a whole factor, and without equal channels."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    for factor in range(16, 1, -1):
        height, width = pixels.shape[:2]
        if height % factor == 0 and width % factor == 0:
            small = pixels[::factor, ::factor]
            if np.array_equal(small.repeat(factor, 0).repeat(factor, 1), pixels):
                return small
    return pixels


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return _uri("png", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
