"""A JSON file that may be a stranger's: a plain file of bounded size, holding an object."""

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 16 << 20


def read(path: Path, most: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a file of at most so many bytes. Raises OSError or ValueError, in one line."""
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
