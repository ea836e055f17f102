"""A run directory, claimed for one run: its config.json says which."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

import genjax
from genjax import files, limits
from genjax.data.dataset import ImageSpec
from genjax.errors import ConfigError
from genjax.run import lock
from genjax.run.config import as_json, difference, load, parse

logger = logging.getLogger(__name__)

WHERE = {"data": ("dir", "folder", "download")}  # settings that say little of what the images are


def run_directory(name: str, given: str | None) -> Path:
    """Where a run lies.

    Args:
      name: of the experiment.
      given: the directory that was asked for, or None.

    Returns:
      The absolute path: the one given, else runs/ and the name.

    Raises:
      ConfigError: where it has characters that cannot be encoded.
    """
    path = files.user_path(given or f"runs/{name}")
    limits.check_text("the path of the run", str(path))
    return path


def with_recorded_rules(config: Any, directory: Path) -> Any:
    """Settings that read a folder by the rules by which the run in a directory was started.

    Args:
      config: the settings given, a dataclass with the fields `run` and `data`.
      directory: the run's.

    Returns:
      The same settings, with `data.rules` of 1 where the run has it.
    """
    path = directory / "config.json"
    if config.data.folder is None or config.run.fresh or not path.exists():
        return config
    values = load(path).get("config")
    data = values.get("data") if isinstance(values, dict) else None
    if not isinstance(data, dict) or data.get("rules") != 1:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, rules=1))


@contextmanager
def claimed(
    directory: Path,
    name: str,
    config: Any,
    spec: ImageSpec,
    fingerprint: str,
    dataset: dict[str, Any],
) -> Iterator[None]:
    """Locks the run directory and writes config.json; another thing there is left as it is.

    Args:
      directory: the run's.
      name: of the experiment.
      config: its settings, a dataclass with the fields `run` and `data`.
      spec: of the images.
      fingerprint: of the images.
      dataset: what was understood of the data set, to be read by people.

    Yields:
      Nothing; the lock is held until the end.

    Raises:
      ConfigError: where the directory holds another run or something else, is in use, or cannot
        be written.
    """
    values = {
        "genjax": genjax.__version__,
        "jax": _numerics(),
        "experiment": name,
        "config": _to_keep(config),
        "images": {**dataclasses.asdict(spec), "fingerprint": fingerprint},
        "dataset": dataset,
    }
    values = as_json(values)
    path, fresh = directory / "config.json", config.run.fresh
    with ExitStack() as stack:
        _check(path, values, type(config), fresh)  # before anything is written
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.locked(directory))
            old = _check(path, values, type(config), fresh)  # by whoever held it meanwhile
            if fresh:
                _keep_earlier(directory)
            files.write_json(path, values)
        except OSError as error:
            raise ConfigError(
                f"cannot write to {directory} ({error.strerror}): give another --run.dir"
            ) from None
        if not fresh:
            _log_changes(old.get("jax"), values["jax"])
        yield


def _numerics() -> dict[str, Any]:
    """What decides a run's bits besides its settings."""
    names = ("default_prng_impl", "threefry_partitionable", "enable_x64")
    return {"version": jax.__version__, **{n: getattr(jax.config, f"jax_{n}") for n in names}}


def _log_changes(old: Any, new: dict[str, Any]) -> None:
    for name, value in new.items():
        if isinstance(old, dict) and name in old and old[name] != value:
            logger.warning(
                "jax's %s was %.40s when this run was last started, now %s: its numbers will differ"
                " from those of an uninterrupted run",
                name.replace("_", " "),
                old[name],
                value,
            )


def _to_keep(config: Any) -> dict[str, Any]:
    """The settings as later commands need them, wherever those are started."""
    values = dataclasses.asdict(config)
    values["run"]["fresh"] = False  # was done
    for name in ("dir", "folder"):
        if values["data"][name] is not None:
            values["data"][name] = str(files.user_path(values["data"][name]))
    return values


def _keep_earlier(directory: Path) -> None:
    """Moves what the directory holds into a folder of its own, itself a run directory."""
    there = [path for path in directory.iterdir() if not _is_kept(path.name)]
    if not there:
        return
    target = files.unused(directory / "earlier")
    target.mkdir()
    # config.json last: until then the directory is known as a run's.
    for path in sorted(there, key=lambda path: path.name == "config.json"):
        path.rename(target / path.name)
    logger.warning("what %s held is kept in %s", directory, target)


def _is_kept(name: str) -> bool:
    return name == lock.NAME or re.fullmatch(r"earlier(-\d+)?", name) is not None


def _check(path: Path, values: dict[str, Any], kind: type, fresh: bool) -> dict[str, Any]:
    """The contents of config.json, once they are seen to be this run's; {} where there is none."""
    directory = path.parent
    if not path.exists():
        if directory.exists() and not all(_is_kept(p.name) for p in directory.iterdir()):
            raise ConfigError(f"{directory} is not empty and holds no run: give another --run.dir")
        return {}
    old = load(path)
    if old.get("experiment") != values["experiment"]:
        raise ConfigError(
            f"{directory} is a run of {old.get('experiment')}: give another --run.dir"
        )
    if fresh:
        return old
    before = as_json(dataclasses.asdict(parse(kind, old.get("config"), str(path))))
    changed = difference(before, values["config"])
    images = old.get("images")
    # Earlier versions did not record all that is known of the images.
    known = {k: v for k, v in values["images"].items() if isinstance(images, dict) and k in images}
    if not changed and (not known.get("fingerprint") or images != known):
        changed = difference(before["data"], values["config"]["data"], "data.", WHERE)
        changed = changed or "the images are others"
    if changed:
        raise ConfigError(
            f"{directory} holds a run with other settings ({changed}): "
            "repeat those, or give another --run.dir"
        )
    return old
