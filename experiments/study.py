"""The rows of a study: results of pieces of work, kept so that a stopped study goes on."""

from typing import Any

from genjax import files
from genjax.errors import ConfigError


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
