"""A person's image files: listed, judged by their header, and read; each refusal names the file."""

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

# Those that Pillow reads by itself: PostScript, say, it would hand to another program.
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
MAX_DEPTH = 64  # folders in folders


def image_files(folder: Path) -> list[Path]:
    """The files below a folder that are images by their name, hidden ones left out, sorted.

    Folders that are links, or more than `MAX_DEPTH` deep, are listed like files, for `check` to
    refuse: to follow them could leave the folder or never end.
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
    """Raise `DataError` for a file that leaves the folder or that its header alone rules out.

    No pixel is decoded. Pillow's warning of huge images is left to the caller to silence.
    """
    with _naming(path):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError("a link that leads out of the folder")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            folder_kind = "a linked folder" if path.is_symlink() else "folders nested too deeply"
            raise DataError(folder_kind if path.is_dir() else "not a regular file")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{status.st_size >> 20} MiB, over {MAX_BYTES >> 20}: make it smaller")
        with _opened(path) as image:
            width, height = image.size
        if max(width, height) > MAX_SIDE:
            raise DataError(f"{width} x {height} pixels, over {MAX_SIDE} a side: make it smaller")


def read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """A checked file as uint8 [size, size, C], upright. Raises `DataError`."""
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
    except Exception as error:  # Pillow's readers raise anything on a broken file
        first = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: broken, or no image ({first})") from error
