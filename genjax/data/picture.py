"""One picture: from an open file to uint8 [H, W, C]."""

import numpy as np
from PIL import Image, ImageOps

from genjax.data.error import DataError


def to_array(image: Image.Image, channels: int, size: int | None = None) -> np.ndarray:
    """Pixels uint8 [H, W, C] with C = `channels`, 1 (luma) or 3 (RGB).

    Turned upright as EXIF says; transparency laid on white; 16-bit grey scaled to 8 bits. With
    `size` the short side is resized to it with a low-pass filter and the centre cropped:
    [size, size, C].
    """
    if size is not None and image.format == "JPEG":
        # Skips the frequencies that twice the wanted size does not show: large photos open faster.
        image.draft(None, (2 * size, 2 * size))
    image = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        grey = np.asarray(image, np.uint16)
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise DataError(f"pixels of type {image.mode!r} have no fixed range: save as 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
