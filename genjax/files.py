"""Writing and reading the files of a run: atomic writes that follow no link, bounded JSON."""

import json
import logging
import math
import os
import secrets
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from genjax.errors import ConfigError

logger = logging.getLogger(__name__)

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
    encoding = None if "b" in mode else "utf-8"
    with (
        atomic_path(path) as temporary,
        temporary.open(mode.replace("w", "x"), encoding=encoding) as file,
    ):
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

    Raises:
      ConfigError: where nothing can be there, or nobody can say what is: a name that is too long,
        a folder that may not be entered, a disk that cannot be read.
    """
    path = Path(os.path.expanduser(given)).absolute()
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever needs it says so
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{str(path)[:200]} cannot be used: {why}") from None
    return path


def unwritable(folder: Path) -> str | None:
    """Why no file can be written into a folder, which is made where there is none.

    Args:
      folder: any.

    Returns:
      The reason; None where files can be written.
    """
    if not folder.is_absolute():
        return "there is no home directory"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def open_to_append(path: Path) -> IO[str]:
    """A text file to append lines to, each written out at once.

    Args:
      path: the file; made where there is none. A last line that was cut short is ended.

    Returns:
      The open file.

    Raises:
      OSError: where `path` is a link: it is not followed.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        if os.read(descriptor, 1) != b"\n":
            os.write(descriptor, b"\n")
    return os.fdopen(descriptor, "a", buffering=1, encoding="utf-8")


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Adds rows to a file of JSON lines.

    Args:
      path: the file; made where there is none.
      rows: {"step": count, …} each.

    Raises:
      OSError: where `path` is a link: it is not followed.
    """
    with open_to_append(path) as file:
        file.writelines(map(row_line, rows))


def unused(path: Path) -> Path:
    """A path that nothing is at.

    Args:
      path: the one that is asked for.

    Returns:
      It, or it with -2, -3, … behind.
    """
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


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
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
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


def row_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON that ends with a checksum of what is before it.

    Args:
      row: {"step": count, …}.

    Returns:
      One line, with "crc" added: the CRC-32 of the line's bytes up to there.
    """
    text = json_text(row)[:-1]
    return f'{text}, "crc": {zlib.crc32(text.encode())}}}\n'


def read_lines(path: Path) -> tuple[list[tuple[dict[str, Any], bytes]], int]:
    """The rows {"step": count, …} of a file of JSON lines such as metrics.jsonl.

    A line is damaged where it is no such row or differs from its checksum, which lines of earlier
    versions do not have. A last line without an end, as a kill leaves it, is skipped and not
    counted. No more than `MAX_LINE_BYTES` of a line is read as one.

    Args:
      path: the file; none counts as one without rows.

    Returns:
      [(row, its line)] in order, and the number of damaged lines.

    Raises:
      OSError: where it is there and cannot be read.
    """
    found: list[tuple[dict[str, Any], bytes]] = []
    damaged = 0
    try:  # not is_file, which is false where the disk cannot be read
        if not stat.S_ISREG(path.stat().st_mode):
            return found, damaged
    except (FileNotFoundError, NotADirectoryError):
        return found, damaged
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            row = _row(line)
            if row is not None:
                found.append((row, line))
            elif line.strip() and (line.endswith(b"\n") or len(line) == MAX_LINE_BYTES):
                damaged += 1
    return found, damaged


def _row(line: bytes) -> dict[str, Any] | None:
    text, mark, check = line.rpartition(b', "crc": ')
    if mark:
        if check.rstrip() != b"%d}" % zlib.crc32(text):
            return None
        line = text + b"}"
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and is_count(row.get("step")) else None


def read_rows(path: Path, keep: Callable[[Any], bool] = lambda value: True) -> list[dict[str, Any]]:
    """The intact rows of `read_lines`; how many lines are damaged is logged.

    Args:
      path: the file; none counts as one without rows.
      keep: which values of a row to keep.

    Returns:
      The rows in order.
    """
    found, damaged = read_lines(path)
    if damaged:
        logger.warning("%s: %s damaged line(s) are skipped", path, f"{damaged:,}")
    return [{name: value for name, value in row.items() if keep(value)} for row, _ in found]


def is_count(value: Any) -> bool:
    """Whether a value is an integer that fits into 64 bits.

    Args:
      value: anything.

    Returns:
      True for an int of 0 up to 2^63 − 1; False for a bool.
    """
    return type(value) is int and 0 <= value < 1 << 63
