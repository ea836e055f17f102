"""The pixels of one open image file, as uint8 [H, W, C]."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from genjax.data.errors import DataError

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


def to_array(
    image: Image.Image, channels: int, size: int | None = None, *, upright: bool = False
) -> np.ndarray:
    """Decodes an image to 8-bit pixels.

    Transparency is composited on white; 16-bit greyscale is scaled to 8 bits.

    Args:
      image: an open file.
      channels: C, 1 for greyscale (luma), 3 for RGB.
      size: side to which the shorter side is resized (Lanczos, anti-aliased), followed by a centre
        crop; None for the image's own size.
      upright: whether to apply the EXIF orientation.

    Returns:
      uint8 [H, W, C], or [size, size, C].

    Raises:
      DataError: for pixels without a fixed range.
    """
    if size is not None and image.format == "JPEG":
        # Decodes to no less than twice the wanted size: 5x faster on photos.
        image.draft(None, (2 * size, 2 * size))
    if upright:
        image = _upright(image)
    image = _flat(image, "L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # damaged pixels are an error, damaged EXIF data is not
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # Pillow raises arbitrary exceptions on damaged EXIF data
        turn = None
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        grey = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise DataError(f"pixels of mode {image.mode} have no fixed range: save them as 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
