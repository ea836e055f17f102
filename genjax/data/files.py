"""Image files of a user: listed, checked by their header, and read; errors name the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from genjax.data.errors import DataError
from genjax.data.pixels import to_array

# Only what Pillow decodes itself: for PostScript, say, it would start another program.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
MAX_SIDE = 8192  # pixels; decoding 8192 x 8192 takes 200 MB
MAX_BYTES = 64 << 20
MAX_DEPTH = 64  # levels of nested folders


def image_files(folder: Path) -> list[Path]:
    """Lists the files below a folder that are images by their suffix, without hidden ones.

    Folders that are links, or nested more than `MAX_DEPTH` levels deep, are listed like files, for
    `check` to reject: to follow them could leave the folder or never end.

    Args:
      folder: where to look.

    Returns:
      The paths, sorted.

    Raises:
      DataError: where a folder cannot be listed.
    """
    found = []
    for parent, folders, names in os.walk(folder, onerror=_cannot_list):
        folders[:] = [name for name in folders if not name.startswith(".")]
        deep = len(Path(parent).relative_to(folder).parts) >= MAX_DEPTH
        found += [Path(parent, f) for f in folders if deep or Path(parent, f).is_symlink()]
        if deep:
            folders.clear()
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in FORMATS
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error


def check(path: Path, folder: Path) -> None:
    """Checks by its header that a file is an image of the folder, without decoding pixels.

    The caller silences Pillow's warning about huge images.

    Args:
      path: the file.
      folder: the folder in which the file must be, links resolved.

    Raises:
      DataError: for a link out of the folder, no regular file, no image, or one over `MAX_BYTES` or
        `MAX_SIDE`.
    """
    with _naming(path):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError("a link that leads out of the folder")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            folder_kind = "a linked folder" if path.is_symlink() else "folders nested too deeply"
            raise DataError(folder_kind if path.is_dir() else "not a regular file")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{status.st_size >> 20} MiB, over {MAX_BYTES >> 20}: make it smaller")
        with _opened(path) as image:
            width, height = image.size
        if max(width, height) > MAX_SIDE:
            raise DataError(f"{width} x {height} pixels, over {MAX_SIDE} a side: make it smaller")


def read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """Reads a file that has passed `check`, with its EXIF orientation applied.

    Args:
      path: the file.
      size: side length in pixels, by resizing and a centre crop.
      channels: C, 1 for greyscale, 3 for colour.

    Returns:
      uint8 [size, size, C].

    Raises:
      DataError: where the file is damaged.
    """
    with _naming(path), _opened(path) as image:
        return to_array(image, channels, size, upright=True)


def _opened(path: Path) -> Image.Image:
    return Image.open(path, formats=sorted(set(FORMATS.values())))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    name = str(path) if str(path).isprintable() else repr(str(path))
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # Pillow raises arbitrary exceptions on damaged files
        first = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: broken, or no image ({first})") from error
