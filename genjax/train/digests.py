"""The size and sha256 of every file of a checkpoint, and its step: without them it never counts."""

import hashlib
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from genjax import files

NAME = "digests.json"
SCORE = "metrics/metrics"  # where a checkpoint's score lies, as Orbax would write it
WINDOW = "window.json"  # the metrics of steps that were not in a row yet

_STEP = re.compile("0|[1-9][0-9]{0,18}")
_SHA256 = re.compile("[0-9a-f]{64}")


def steps(directory: Path) -> list[int]:
    """The checkpoints in a directory; what is somebody else's in it is none.

    Args:
      directory: of the checkpoints.

    Returns:
      Their steps, damaged ones included, in order.

    Raises:
      OSError: where the directory cannot be read; one that is not there holds none.
    """
    try:
        names = [name for name in os.listdir(directory) if _STEP.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    parts = {NAME, "state", "_CHECKPOINT_METADATA"}
    return sorted(int(name) for name in names if parts & _listed(directory / name))


def _listed(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def write(
    folder: Path,
    step: int,
    score: float | None = None,
    last_row: int | None = None,
    window: dict[str, Any] | None = None,
) -> None:
    """Adds to a folder what belongs to its state, and then the digests, atomically.

    Args:
      folder: of a checkpoint, with its state.
      step: the checkpoint's.
      score: the number that it is ranked by; one that is not finite counts as None.
      last_row: step of the last row of metrics.jsonl that belongs to it.
      window: what is known of the train steps since, of plain values.
    """
    if score is not None and math.isfinite(score):
        (folder / SCORE).parent.mkdir()
        files.write_json(folder / SCORE, {"score": float(score)})
    if window is not None:
        files.write_json(folder / WINDOW, window)
    found = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in sorted(_names(folder))
    }
    files.write_json(folder / NAME, {"step": step, "last_row": last_row, "files": found})


def last_row(folder: Path) -> int:
    """How far metrics.jsonl must reach that belongs to a checkpoint.

    Args:
      folder: the checkpoint's, intact.

    Returns:
      The step of its last row; 0 where that is not known.
    """
    step: Any = files.read_json(folder / NAME).get("last_row")
    return int(step) if files.is_count(step) else 0


def window(folder: Path) -> Any:
    """What was known of the train steps since the last row of metrics.

    Args:
      folder: the checkpoint's, intact.

    Returns:
      What was saved; None in those of earlier versions.

    Raises:
      OSError: where it is there and cannot be read.
    """
    try:
        return files.read_json(folder / WINDOW, files.MAX_LINE_BYTES)
    except (FileNotFoundError, ValueError):
        return None


def damage(folder: Path, most_bytes: float = math.inf) -> str | None:
    """What is wrong with a checkpoint's files.

    A link is damage: it could lead to a file of someone else's. So is a file that the digests do
    not name, a checkpoint under another step's name, and what is being deleted. A file that cannot
    be read at the moment is no damage.

    Args:
      folder: a checkpoint's, named by its step.
      most_bytes: how much to read; larger checkpoints are compared by names and sizes alone.

    Returns:
      The damage in words; None where it is intact.

    Raises:
      OSError: where a file that is there cannot be read.
    """
    try:
        kinds = {**_names(folder), **({"": "a link"} if folder.is_symlink() else {})}
        if odd := [f"{name or 'it'} is {kind}" for name, kind in sorted(kinds.items()) if kind]:
            return odd[0]
        step, recorded = _recorded(folder)
        if different := _different(kinds.keys(), recorded.keys()):
            return different
        if step is not None and folder.name != str(step):
            return f"it is the checkpoint of step {step:,}"
        read = sum((folder / name).stat().st_size for name in recorded) <= most_bytes
        for name, about in recorded.items():
            if not _matches(folder / name, about, read=read):
                return f"{name} is damaged"
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{Path(error.filename or NAME).name} is missing"
    except ValueError as error:
        return str(error)
    return None


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a checkpoint and nothing else.

    Args:
      folder: any.

    Returns:
      True where its files are those that its digests name.

    Raises:
      OSError: where it cannot be read.
    """
    try:
        return not folder.is_symlink() and _names(folder).keys() == _recorded(folder)[1].keys()
    except ValueError:
        return False


def score(folder: Path) -> float | None:
    """The number that a checkpoint is ranked by.

    Args:
      folder: the checkpoint's.

    Returns:
      The score, lower is better; None where it has none, or a damaged one.

    Raises:
      OSError: where it is there and cannot be read.
    """
    try:
        about = _recorded(folder)[1].get(SCORE)
        if about is None or not _matches(folder / SCORE, about):
            return None
        value = files.read_json(folder / SCORE, files.MAX_LINE_BYTES).get("score")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _matches(path: Path, about: dict[str, Any], *, read: bool = True) -> bool:
    size = about.get("bytes")
    if size is not None and path.stat().st_size != size:
        return False
    return not read or sha256(path) == about["sha256"]


def _different(found: Any, recorded: Any) -> str | None:
    if missing := sorted(recorded - found):
        return f"{missing[0]} is missing"
    if unknown := sorted(found - recorded):
        return f"{unknown[0]} is not in {NAME}"
    return None


def _recorded(folder: Path) -> tuple[int | None, dict[str, dict[str, Any]]]:
    """The step, None in those of earlier versions, and {file: its size and digest}."""
    try:
        values = files.read_json(folder / NAME)
    except FileNotFoundError:
        raise ValueError("it was never completed") from None
    except ValueError:
        raise ValueError(f"{NAME} is damaged") from None
    step, recorded = None, {name: {"sha256": digest} for name, digest in values.items()}
    if isinstance(values.get("files"), dict):
        step, recorded = values.get("step", "none"), values["files"]
    good = (
        recorded and (step is None or files.is_count(step)) and all(map(_fits, recorded.values()))
    )
    if not good:
        raise ValueError(f"{NAME} is damaged")
    return step, recorded


def _fits(about: Any) -> bool:
    if not isinstance(about, dict) or not isinstance(about.get("sha256"), str):
        return False
    size = about.get("bytes")
    return bool(_SHA256.fullmatch(about["sha256"])) and (size is None or files.is_count(size))


def _names(folder: Path) -> dict[str, str]:
    """{file but for the digests: "", or what it is instead of a plain file}"""

    def unreadable(error: OSError) -> None:
        raise error

    found = {}
    for place, folders, names in os.walk(folder, onerror=unreadable):
        for name in [*names, *folders]:
            path = Path(place, name)
            mode = path.lstat().st_mode
            odd = "a link" if stat.S_ISLNK(mode) else "" if stat.S_ISREG(mode) else "no plain file"
            if not stat.S_ISDIR(mode) and path != folder / NAME:
                found[str(path.relative_to(folder))] = odd
    return found


def sha256(path: Path) -> str:
    """The digest of one file.

    Args:
      path: the file.

    Returns:
      64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
