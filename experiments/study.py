"""What studies share: rows of results, kept so that a stopped study goes on, and their page."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from genjax import files
from genjax.errors import ConfigError
from genjax.run.config import as_json


def identity(study: Any, free: Sequence[str], **more: Any) -> dict[str, Any]:
    """The settings that every row of a directory shares: all but the free ones, and `more`."""
    free = (*free, "seeds", "first_seed", "write", "dir", "data")
    shared = {k: v for k, v in asdict(study).items() if k not in free}
    place = {k: v for k, v in asdict(study.data).items() if k not in ("dir", "download")}
    return as_json({**shared, **more, "data": place})


def where_and_when() -> dict[str, str]:
    """The device and the date of a row."""
    device = f"{jax.device_count()} {jax.devices()[0].device_kind}"
    return {"device": device, "date": time.strftime("%Y-%m-%d")}


def write_below(page: Path, mark: str, text: str) -> None:
    """Puts what a study found on its page, below the mark."""
    above, mark, _ = page.read_text(encoding="utf-8").partition(mark)
    page.write_text(f"{above}{mark}\n{text}", encoding="utf-8")


class Rows:
    """The rows of a directory, a file that is complete after each piece.

    Args:
      directory: of the study.
      name: of the file.
      settings: what all rows share.
      images: fingerprint of the images that all rows share.

    Raises:
      ConfigError: where the file cannot be read, or holds a study of other settings or images.
    """

    def __init__(self, directory: str, name: str, settings: dict[str, Any], images: str):
        self.path = files.user_path(directory) / name
        about = {"settings": settings, "images": images}
        try:
            self.values = files.read_json(self.path)
        except FileNotFoundError:
            self.values = {**about, "rows": []}
        except ValueError as error:
            raise ConfigError(f"{self.path} cannot be read: {error}; move it away") from None
        for name, value in about.items():
            if (theirs := self.values.get(name)) != value:
                other = [k for k in value if theirs.get(k) != value[k]] if name != "images" else []
                raise ConfigError(
                    f"{directory} holds a study of other {', '.join(other) or 'images'}: give "
                    "another --dir"
                )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of them, the earliest first."""
        return self.values["rows"]

    def find(self, **key: Any) -> dict[str, Any] | None:
        """The last row that has these values."""
        found = [row for row in self.rows if all(row.get(k) == v for k, v in key.items())]
        return found[-1] if found else None

    def add(self, row: dict[str, Any]) -> None:
        """Writes a row."""
        self.rows.append(row)
        files.write_json(self.path, self.values)
