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


def with_recorded_rules(config: Any, directory: Path) -> Any:
    """Settings that read a folder by the rules by which the run in a directory was started.

    Args:
      config: the settings given, a dataclass with the fields `run` and `data`.
      directory: the run's.

    Returns:
      The same settings, with `data.rules` of 1 where the run has it.
    """
    path = directory / "config.json"
    if config.data.folder is None or not path.exists():
        return config
    values = load(path).get("config")
    data = values.get("data") if isinstance(values, dict) else None
    if not isinstance(data, dict) or data.get("rules") != 1:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, rules=1))


def claim(
    directory: Path,
    name: str,
    config: Any,
    spec: ImageSpec,
    fingerprint: str,
    dataset: dict[str, Any],
) -> None:
    """Writes config.json into the run directory; one that holds something else is left as it is.

    Args:
      directory: the run's.
      name: of the experiment.
      config: its settings, a dataclass with the fields `run` and `data`.
      spec: of the images.
      fingerprint: of the images.
      dataset: what was understood of the data set, to be read by people.

    Raises:
      ConfigError: where the directory holds another run or something else, or cannot be written.
    """
    values = {
        "genjax": genjax.__version__,
        "experiment": name,
        "config": dataclasses.asdict(config),
        "images": {**dataclasses.asdict(spec), "fingerprint": fingerprint},
        "dataset": dataset,
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
    images = old.get("images")
    # Earlier versions did not record all that is known of the images.
    known = {k: v for k, v in values["images"].items() if isinstance(images, dict) and k in images}
    if not changed and (not known.get("fingerprint") or images != known):
        changed = "the images are others"
    if changed:
        raise ConfigError(
            f"{directory} holds a run with other settings ({changed}): "
            "repeat those, or give another --run.dir"
        )
