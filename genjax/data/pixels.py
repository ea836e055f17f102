"""The pixels of one open image file, as uint8 [H, W, C]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from genjax.data.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Form:
    """The form that all images of a data set are brought to.

    Attributes:
      channels: C, 1 for greyscale (luma), 3 for RGB, 4 for RGB with opacity.
      size: (H, W), reached by resizing (Lanczos, anti-aliased) and `fit`; None for each image's own
        size.
      fit: "crop" to cut out the centre, "pad" to add black on two sides.
      range: the values that become 0 and 255, with those beyond clipped; None for the complete
        range of the file's format.
    """

    channels: int
    size: tuple[int, int] | None = None
    fit: Literal["crop", "pad"] = "crop"
    range: tuple[float, float] | None = None


def to_array(image: Image.Image, form: Form, *, upright: bool = False) -> np.ndarray:
    """Decodes an image to 8-bit pixels.

    Transparency is composited on white, unless the form has four channels.

    Args:
      image: an open file.
      form: of the result.
      upright: whether to apply the EXIF orientation.

    Returns:
      uint8 [H, W, C].

    Raises:
      DataError: for pixels without a fixed range.
    """
    if form.range is not None and _reduced(image):
        raise DataError("--data.range is for 16 bits in grey: of colours 8 bits are read")
    size = form.size and form.size[::-1]
    if size is not None and image.format == "JPEG":
        # Decodes to no less than twice the wanted size: 5x faster on photos.
        image.draft(None, (2 * max(size), 2 * max(size)))
    if upright:
        image = _upright(image)
    image = _flat(image, MODES[form.channels], form.range)
    if size is not None and image.size != size:
        if form.fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
        else:
            image = _padded(image, size)
    return np.asarray(image).reshape(image.height, image.width, form.channels)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps a range of values to 8 bits.

    Args:
      values: numbers [...].
      low: what becomes 0, as everything below it.
      high: what becomes 255, as everything above it.

    Returns:
      uint8 [...].

    Raises:
      DataError: for NaN.
    """
    unit = (np.asarray(values, np.float64) - low) / (high - low)
    if np.isnan(unit).any():
        raise DataError("some pixels are NaN")
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # damaged pixels are an error, damaged EXIF data is not
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # Pillow raises arbitrary exceptions on damaged EXIF data
        turn = None
    return image if turn is None else image.transpose(turn)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    image = image.resize(inner, Image.Resampling.LANCZOS)
    sheet = Image.new(image.mode, size)  # black, or transparent
    sheet.paste(image, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return sheet


def _flat(image: Image.Image, mode: str, limits: tuple[float, float] | None) -> Image.Image:
    wide = image.mode.startswith("I;16")
    if image.mode in ("I", "F") and limits is None:
        values = np.asarray(image)
        raise DataError(
            f"pixels of mode {image.mode} have no fixed range: give it by --data.range LOW HIGH "
            f"(in this file {values.min():g} to {values.max():g})"
        )
    if wide and limits is None:  # Pillow's own conversion clips at 255
        grey = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert(mode)
    if wide or image.mode in ("I", "F"):
        assert limits is not None
        return Image.fromarray(scaled(np.asarray(image), *limits)).convert(mode)
    if image.mode != mode or image.has_transparency_data:
        if image.has_transparency_data and mode != "RGBA":
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert(mode)
    if limits is not None:
        levels = scaled(np.arange(256), *limits).tolist()
        opaque = list(range(256)) if mode == "RGBA" else []
        image = image.point(levels * min(3, len(mode)) + opaque)
    return image


def _reduced(image: Image.Image) -> bool:
    """Whether Pillow reads the file's 16 bits of a colour as 8, by how it will decode it."""
    if image.mode.startswith("I") or not getattr(image, "tile", None):
        return False
    codec, _, _, how = image.tile[0]  # type: ignore[attr-defined]
    return ";16" in str(how) or (codec == "ppm" and how[-1] > 255)
