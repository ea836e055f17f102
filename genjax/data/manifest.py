"""Checks of a prepared data set's JSON files before TFDS reads them: they may be untrusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genjax import files
from genjax.data.errors import DataError


def check(folder: Path) -> None:
    """Checks that a data set names no code to import and no records outside its folder.

    TFDS imports the module of every class that features.json names, and an untrusted data set could
    name any. Only TFDS' own features are allowed.

    Args:
      folder: of the prepared data set.

    Raises:
      DataError: where it names such code or records, or its JSON files cannot be read.
    """
    for kind, name in _strings(_loaded(folder / "features.json")):
        names_code = kind in ("pythonClassName", "python_class_name", "type")
        if names_code and not name.startswith("tensorflow_datasets."):
            raise DataError(f"{folder}: features.json names the code {name[:80]!r}, not TFDS'")
    for kind, name in _strings(_loaded(folder / "dataset_info.json")):
        if kind in ("filepathTemplate", "filepath_template") and ("/" in name or "\\" in name):
            raise DataError(f"{folder}: the records {name[:80]!r} lie outside of it")


def _loaded(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(
            f"{path.parent} cannot be read ({path.name}: {first}): delete it and prepare it again"
        ) from None


def _strings(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every string in a JSON value, with its key."""
    waiting: list[Any] = [value]  # no recursion: an untrusted file decides on the depth
    while waiting:
        value = waiting.pop()
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, str):
                yield str(key), item
            elif isinstance(item, dict | list):
                waiting.append(item)
