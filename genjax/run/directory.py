"""A run directory, claimed for one run: its config.json says which."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import genjax
from genjax import files
from genjax.data.dataset import ImageSpec
from genjax.errors import ConfigError
from genjax.run.config import as_json, difference, load, parse


def run_directory(name: str, given: str | None) -> Path:
    """Where a run lies.

    Args:
      name: of the experiment.
      given: the directory that was asked for, or None.

    Returns:
      The absolute path: the one given, else runs/ and the name.
    """
    return files.user_path(given or f"runs/{name}")


def claim(
    directory: Path,
    name: str,
    config: Any,
    spec: ImageSpec,
    fingerprint: str,
) -> None:
    """Writes config.json into the run directory; one that holds something else is left as it is.

    Args:
      directory: the run's.
      name: of the experiment.
      config: its settings, a dataclass with the fields `run` and `data`.
      spec: of the images.
      fingerprint: of the images.

    Raises:
      ConfigError: where the directory holds another run or something else, or cannot be written.
    """
    values = {
        "genjax": genjax.__version__,
        "experiment": name,
        "config": dataclasses.asdict(config),
        "images": {**dataclasses.asdict(spec), "fingerprint": fingerprint},
    }
    values = as_json(values)
    path = directory / "config.json"
    if path.exists():
        _check_same_run(path, values, type(config))
    elif directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no run: give another --run.dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files.write_json(path, values)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory} ({error.strerror}): give another --run.dir"
        ) from None


def _check_same_run(path: Path, values: dict[str, Any], kind: type) -> None:
    old, directory = load(path), path.parent
    if old.get("experiment") != values["experiment"]:
        raise ConfigError(
            f"{directory} is a run of {old.get('experiment')}: give another --run.dir"
        )
    before: Any = parse(kind, old.get("config"), str(path))
    changed = difference(as_json(dataclasses.asdict(before)), values["config"])
    if not changed and old.get("images") != values["images"]:
        changed = "the images are others"
    if changed:
        raise ConfigError(
            f"{directory} holds a run with other settings ({changed}): "
            "repeat those, or give another --run.dir"
        )
