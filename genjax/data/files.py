"""Image files of a user, in a folder or a ZIP archive; errors name the file."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from PIL import Image

from genjax.data.errors import DataError
from genjax.data.pixels import Form, to_array
from genjax.data.settings import MAX_SIDE

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
FRAMED = {"GIF", "PNG", "TIFF", "WEBP"}  # formats whose files may hold several images
MAX_BYTES = 64 << 20
MAX_DEPTH = 64  # levels of nested folders
MAX_FRAMES = 10_000
_IGNORED = "__MACOSX"  # what macOS adds to archives


class FileError(DataError):
    """A file cannot be used.

    Args:
      path: of the file.
      reason: why, in words that many files may share.
      detail: what else there is to say.
    """

    def __init__(self, path: Path, reason: str, detail: str = ""):
        name = str(path) if str(path).isprintable() else repr(str(path))
        super().__init__(f"{name}: {reason}{detail}")
        self.reason = reason


@dataclass(frozen=True)
class Listing:
    """What lies in a folder or an archive, by path relative to it with slashes; hidden ones not.

    Attributes:
      images: files that are images by their suffix, sorted. Linked folders and those nested too
        deeply are among them, for `header` to reject.
      others: the other files.
      folders: the folders.
    """

    images: list[str]
    others: list[str]
    folders: list[str]


class Tree(Protocol):
    """A folder or an archive of files."""

    @property
    def path(self) -> Path:
        """Of the folder or archive."""

    def list(self) -> Listing:
        """Lists the files.

        Returns:
          What there is.
        """

    def open(self, name: str) -> IO[bytes]:
        """Opens a file of the listing; a `DataError` where it must not be read.

        Args:
          name: its relative path.

        Returns:
          The open file.
        """


@dataclass(frozen=True)
class Folder:
    """A folder on disk.

    Attributes:
      path: of the folder.
      follow_links: whether links may lead out of it, and to folders.
    """

    path: Path
    follow_links: bool = False

    def list(self) -> Listing:
        """Lists the files.

        Returns:
          What there is. A linked folder that leads back to one above it is not entered.

        Raises:
          DataError: where a folder cannot be listed.
        """
        images: list[str] = []
        others: list[str] = []
        inside: list[str] = []
        walk = os.walk(self.path, onerror=_cannot_list, followlinks=self.follow_links)
        for parent, folders, names in walk:
            here = Path(parent).relative_to(self.path)
            folders[:] = [name for name in folders if not _hidden(name)]
            deep = len(here.parts) >= MAX_DEPTH
            odd = [n for n in folders if deep or (not self.follow_links and _linked(parent, n))]
            if self.follow_links:
                folders[:] = [n for n in folders if not _leads_back(Path(parent, n), self.path)]
            if deep:
                folders.clear()
            inside += [(here / name).as_posix() for name in folders if name not in odd]
            for name in names:
                if not _hidden(name):
                    kind = images if Path(name).suffix.lower() in FORMATS else others
                    kind.append((here / name).as_posix())
            images += [(here / name).as_posix() for name in odd]
        return Listing(sorted(images), sorted(others), sorted(inside))

    def open(self, name: str) -> IO[bytes]:
        """Opens a file of the listing.

        Args:
          name: its path relative to the folder.

        Returns:
          The open file.

        Raises:
          DataError: for a link out of the folder, no regular file, or one over `MAX_BYTES`.
        """
        path = self.path / name
        if not self.follow_links and not path.resolve().is_relative_to(self.path.resolve()):
            raise DataError("a link that leads out of the folder: --data.follow-links allows it")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            linked = "a linked folder: --data.follow-links enters it"
            kind = linked if path.is_symlink() else "folders nested too deeply"
            raise DataError(kind if path.is_dir() else "not a regular file")
        _check_bytes(status.st_size)
        return path.open("rb")


class Archive:
    """A ZIP archive.

    Args:
      path: of the archive.

    Raises:
      DataError: where it cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{path} cannot be read as a ZIP archive: {error}") from error
        # Some programs write the separators of Windows.
        self._members = {i.filename.replace("\\", "/"): i for i in self._zip.infolist()}

    def list(self) -> Listing:
        """Lists the files.

        Returns:
          What there is.
        """
        images: set[str] = set()
        others: set[str] = set()
        folders: set[str] = set()
        for name, info in self._members.items():
            parts = [part for part in name.split("/") if part]
            if not parts or any(map(_hidden, parts)):
                continue
            folders |= {"/".join(parts[:i]) for i in range(1, len(parts))}
            if info.is_dir():
                folders.add("/".join(parts))
            else:
                kind = images if Path(parts[-1]).suffix.lower() in FORMATS else others
                kind.add(name)
        return Listing(sorted(images), sorted(others), sorted(folders))

    def open(self, name: str) -> IO[bytes]:
        """Reads a file of the listing.

        Args:
          name: its path in the archive.

        Returns:
          The file, in memory.

        Raises:
          DataError: for a file over `MAX_BYTES`, or one with a password.
        """
        info = self._members[name]
        if info.flag_bits & 1:
            raise DataError("encrypted: unpack the archive")
        _check_bytes(info.file_size)
        with self._zip.open(info) as file:
            return io.BytesIO(file.read(MAX_BYTES + 1))


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image file says.

    Attributes:
      size: (width, height) as stored.
      mode: Pillow's name of the kind of pixels.
      transparent: whether pixels may be transparent.
      frames: number of images in the file.
    """

    size: tuple[int, int]
    mode: str
    transparent: bool
    frames: int

    @property
    def grey(self) -> bool:
        """Whether the pixels are grey by their mode."""
        return self.mode in ("1", "L", "LA", "La", "I", "F") or self.mode.startswith("I;16")


def header(tree: Tree, name: str) -> Header:
    """Checks by its header that a file is an image, without decoding pixels.

    The caller silences Pillow's warning about huge images.

    Args:
      tree: the folder or archive.
      name: of the file.

    Returns:
      What the header says.

    Raises:
      DataError: for what `Tree.open` rejects, no image, or one over `MAX_SIDE`.
    """
    with _naming(tree, name), tree.open(name) as file, _opened(file) as image:
        width, height = image.size
        if max(width, height) > MAX_SIDE:
            raise DataError(f"{width} x {height} pixels, over {MAX_SIDE} a side: make it smaller")
        mode, transparent = image.mode, image.has_transparency_data
        return Header((width, height), mode, transparent, _frames(image))


def read_image(tree: Tree, name: str, form: Form, frame: int = 0) -> np.ndarray:
    """Reads a file that has passed `header`, with its EXIF orientation applied.

    Args:
      tree: the folder or archive.
      name: of the file.
      form: of the result.
      frame: which image of a file that holds several.

    Returns:
      uint8 [H, W, C].

    Raises:
      DataError: where the file is damaged.
    """
    with _naming(tree, name), tree.open(name) as file, _opened(file) as image:
        if frame:
            image.seek(frame)
        return to_array(image, form, upright=True)


def brightest(tree: Tree, name: str) -> tuple[int, int] | None:
    """The highest value in a file that has passed `header`.

    Args:
      tree: the folder or archive.
      name: of the file.

    Returns:
      It, and the highest value possible; None for pixels without a fixed range.

    Raises:
      DataError: where the file is damaged.
    """
    with _naming(tree, name), tree.open(name) as file, _opened(file) as image:
        if image.mode in ("I", "F"):
            return None
        if image.mode.startswith("I;16"):
            return int(np.asarray(image).max()), 65535
        return int(np.asarray(image.convert("RGB")).max()), 255


def _frames(image: Image.Image) -> int:
    if image.format not in FRAMED:
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # a damaged later frame; the first may be intact
        return 1


def _opened(file: IO[bytes]) -> Image.Image:
    return Image.open(file, formats=sorted(set(FORMATS.values())))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == _IGNORED


def _linked(parent: str, name: str) -> bool:
    return Path(parent, name).is_symlink()


def _leads_back(path: Path, root: Path) -> bool:
    """Whether a folder is a link to one of those above it, which would never end."""
    if not path.is_symlink():
        return False
    above = [parent for parent in path.parents if parent.is_relative_to(root)]
    return path.resolve() in {parent.resolve() for parent in above}


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be listed: {error.strerror}") from error


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"{size >> 20} MiB, over {MAX_BYTES >> 20}: make it smaller")


@contextmanager
def _naming(tree: Tree, name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise FileError(tree.path / name, str(error)) from error
    except Exception as error:  # Pillow raises arbitrary exceptions on damaged files
        first = str(error).partition("\n")[0] or type(error).__name__
        raise FileError(tree.path / name, "broken, or no image", f" ({first})") from error
