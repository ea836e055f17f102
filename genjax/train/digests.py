"""The sha256 of every file of a checkpoint, written last: without them it was never completed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from genjax import files

NAME = "digests.json"


def write(folder: Path) -> None:
    """Adds the digests to a folder, atomically.

    Args:
      folder: a checkpoint's, written by Orbax.
    """
    digests = {str(path.relative_to(folder)): sha256(path) for path in _files(folder)}
    files.write_json(folder / NAME, dict(sorted(digests.items())))


def damage(folder: Path, part: str = "") -> str | None:
    """What is wrong with a checkpoint's files.

    A link is damage: it could lead to a file of someone else's. So is what is being deleted.

    Args:
      folder: a checkpoint's.
      part: only the files whose names, from the folder, begin so.

    Returns:
      The damage in words; None where it is intact.
    """
    try:
        return _damage(folder, part)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _damage(folder: Path, part: str) -> str | None:
    if links := sorted(path for path in folder.rglob("*") if path.is_symlink()):
        return f"{links[0].relative_to(folder)} is a link"
    if not (folder / NAME).is_file():
        return "it was never completed"
    try:
        digests = files.read_json(folder / NAME)
    except (OSError, ValueError):
        return f"{NAME} is damaged"
    digests = {name: digest for name, digest in digests.items() if name.startswith(part)}
    found = {str(path.relative_to(folder)) for path in _files(folder)}
    if missing := sorted(digests.keys() - found):
        return f"{missing[0]} is missing"
    for name in sorted(digests):
        try:
            if sha256(folder / name) != digests[name]:
                return f"{name} is damaged"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != NAME)


def sha256(path: Path) -> str:
    """The digest of one file.

    Args:
      path: the file.

    Returns:
      64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
