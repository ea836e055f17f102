"""A run directory, claimed for one run, and the images the run is about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import genjax
from genjax.cli.config import ConfigError, Data, difference, load, parse, save
from genjax.cli.system import Spec
from genjax.data import Images, open_images


def run_directory(name: str, config: Any) -> Path:
    """The directory of a run."""
    return Path(config.run.dir or f"runs/{name}").absolute()


def claim(name: str, config: Any, spec: Spec, fingerprint: str) -> None:
    """Writes config.json into the run directory; one that holds something else is left alone."""
    directory = run_directory(name, config)
    values = {
        "genjax": genjax.__version__,
        "experiment": name,
        "config": dataclasses.asdict(config),
        "images": {**dataclasses.asdict(spec), "fingerprint": fingerprint},
    }
    values = _as_json(values)
    path = directory / "config.json"
    if path.exists():
        old = load(path)
        if old.get("experiment") != name:
            raise ConfigError(
                f"{directory} is a run of {old.get('experiment')}: give another --run.dir"
            )
        before = parse(type(config), old.get("config"), str(path))
        changed = difference(_as_json(dataclasses.asdict(before)), values["config"])
        if not changed and old.get("images") != values["images"]:
            changed = "the images are others"
        if changed:
            raise ConfigError(
                f"{directory} holds a run with other settings ({changed}): "
                "repeat those, or give another --run.dir"
            )
    elif directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no run: give another --run.dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save(path, values)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory} ({error.strerror}): give another --run.dir"
        ) from None


def _as_json(values: Any) -> Any:
    """Tuples become lists, as they do in a file."""
    if isinstance(values, dict):
        return {key: _as_json(value) for key, value in values.items()}
    return [_as_json(v) for v in values] if isinstance(values, list | tuple) else values


def open_split(data: Data, split: str) -> Images:
    """The images of one split of the run's data set."""
    return open_images(
        data.name,
        split=split,
        data_dir=data.dir,
        folder=data.folder,
        size=data.size,
        channels=data.channels,
        bad=data.bad,
        download=data.download,
    )
