"""Writing and reading the files of a run: atomic writes that follow no link, bounded JSON."""

import json
import math
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

MAX_JSON_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 20


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path that replaces a file atomically once it is written.

    A link at `path` is replaced, not followed; so is none that somebody planted for the temporary
    file, whose name nobody can foresee.

    Args:
      path: where the file shall be.

    Yields:
      A path of an unused name in the same folder.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def atomic_open(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """An open temporary file that replaces a file atomically once it is closed.

    Args:
      path: where the file shall be; a link there is replaced, not followed.
      mode: "w" for text, "wb" for bytes.

    Yields:
      The open file.
    """
    with atomic_path(path) as temporary, temporary.open(mode.replace("w", "x")) as file:
        yield file
        file.flush()


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically; a link there is replaced, not followed.

    Args:
      path: where the file shall be.
      text: its contents.
    """
    with atomic_open(path) as file:
        file.write(text)


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file atomically; a link there is replaced, not followed.

    Args:
      path: where the file shall be.
      values: what `json_text` takes.
    """
    write_text(path, json_text(values, indent=2) + "\n")


def json_text(values: Any, indent: int | None = None) -> str:
    """JSON that any program reads: null for the numbers that JSON has not, NaN and infinities.

    Args:
      values: dicts, lists and tuples of plain values.
      indent: as in `json.dumps`.

    Returns:
      The text.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(values), indent=indent, allow_nan=False)


def user_path(given: str | os.PathLike[str]) -> Path:
    """A path as a user gives it.

    Args:
      given: relative to the working directory, absolute, or with ~ for somebody's home.

    Returns:
      The absolute path; a ~ without a home stays as it is.
    """
    return Path(os.path.expanduser(given)).absolute()


def open_to_append(path: Path) -> IO[str]:
    """A text file to append lines to, each written out at once.

    Args:
      path: the file; made where there is none.

    Returns:
      The open file.

    Raises:
      OSError: where `path` is a link: it is not followed.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o666), "a", buffering=1)


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file that may be a stranger's: a plain file of bounded size.

    Args:
      path: the file.
      most: bytes that it may have.

    Returns:
      The object.

    Raises:
      OSError: where it cannot be read.
      ValueError: where it is no plain file, too large or no JSON object; the message is one line.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("it is no file")
    with path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"it is over {most >> 20} MiB")
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    return values


def read_rows(path: Path, keep: Callable[[Any], bool] = lambda value: True) -> list[dict[str, Any]]:
    """The rows {"step": count, …} of a file of JSON lines such as metrics.jsonl.

    Lines that are none, such as one that a kill cut short, are skipped, and so is what follows the
    first `MAX_LINE_BYTES` of a line.

    Args:
      path: the file; none counts as one without rows.
      keep: which values of a row to keep.

    Returns:
      The rows in order.
    """
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and is_count(row.get("step")):
                rows.append({name: value for name, value in row.items() if keep(value)})
    return rows


def is_count(value: Any) -> bool:
    """Whether a value is an integer that fits into 64 bits.

    Args:
      value: anything.

    Returns:
      True for an int of 0 up to 2^63 − 1; False for a bool.
    """
    return type(value) is int and 0 <= value < 1 << 63
