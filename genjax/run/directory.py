"""A run directory, claimed for one run: its config.json says which."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

import genjax
from genjax import files, limits
from genjax.data.dataset import ImageSpec
from genjax.errors import ConfigError
from genjax.run import history, lock
from genjax.run.config import Change, as_json, differences, load, parse

logger = logging.getLogger(__name__)

_IMAGES = "the images"  # where no setting says how they differ
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


def destination(run: Path, is_export: bool, to: str | None, names: Sequence[str]) -> Path:
    """The folder that a command writes what it makes of a run to, made where there is none.

    Args:
      run: the directory of the run or the export.
      is_export: whether it is an export, to which nothing is added.
      to: the folder that was asked for; None: the run's own, or for an export the working
        directory.
      names: of what will be written. In the run's own folder it replaces that of an earlier
        command, elsewhere nothing.

    Returns:
      The folder.

    Raises:
      ConfigError: where it cannot be written to, or one of the names is there.
    """
    own = None if is_export else run
    folder = files.user_path(to) if to is not None else own or Path.cwd()
    if to is None and is_export and folder.resolve() == run.resolve():
        raise ConfigError(f"{folder} is an export, which stays as it is: give --to")
    if reason := files.unwritable(folder):
        raise ConfigError(f"cannot write to {folder} ({reason}): give another --to")
    for name in names:
        if folder != own and os.path.lexists(folder / name):
            raise ConfigError(f"{folder / name} is there already: give another --to")
    return folder


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


def with_recorded_keep(config: Any, directory: Path) -> Any:
    """Settings that keep as many checkpoints as the run in a directory did, unless they say.

    Without it, the same run resumed without its --run.keep would delete what that has kept.

    Args:
      config: the settings given, a dataclass with the field `run`.
      directory: the run's.

    Returns:
      The same settings, with `run.keep` of the run that is there.

    Raises:
      ConfigError: where config.json cannot be read, or its settings do not fit.
    """
    path = directory / "config.json"
    if config.run.keep is not None or config.run.fresh or not path.exists():
        return config
    values = load(path).get("config")
    recorded = values.get("run") if isinstance(values, dict) else None
    keep = parse(type(config.run), recorded, f"{path}, run").keep
    return dataclasses.replace(config, run=dataclasses.replace(config.run, keep=keep))


@contextmanager
def claimed(
    directory: Path,
    name: str,
    config: Any,
    spec: ImageSpec,
    fingerprint: str,
    dataset: dict[str, Any],
    resume_at: Callable[[], tuple[str, int]],
    first_weights: dict[str, Any] | None = None,
) -> Iterator[None]:
    """Locks the run directory and writes config.json; another thing there is left as it is.

    Settings that differ from the run's are refused, or recorded in config.json as "changes" where
    the settings allow them: [{"setting", "before", "after", "stage", "step"}].

    Args:
      directory: the run's.
      name: of the experiment.
      config: its settings, a dataclass with the fields `run` and `data`.
      spec: of the images.
      fingerprint: of the images.
      dataset: what was understood of the data set, to be read by people.
      resume_at: returns the stage ("" for the last) and the step at which a run with changed
        settings resumes, or raises where its state does not fit them.
      first_weights: what the run starts from, recorded as "init_from"; None for nothing.

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
        _check(path, values, config)  # before anything is written
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.locked(directory))
            old, changed = _check(path, values, config)  # by whoever held it meanwhile
            if fresh:
                _keep_earlier(directory)
            else:
                values |= _history(old, changed, resume_at)
            if first_weights:
                _check_same(first_weights, {} if fresh else values)
                values["init_from"] = first_weights
            files.write_json(path, values)
        except OSError as error:
            raise ConfigError(
                f"cannot write to {directory} ({error.strerror}): give another --run.dir"
            ) from None
        if not fresh:
            _log_changes(old.get("jax"), values["jax"])
        yield


def _history(
    old: dict[str, Any], changed: list[Change], resume_at: Callable[[], tuple[str, int]]
) -> dict[str, Any]:
    """What config.json keeps of how the run came to be."""
    found = history.kept(old)
    if changed:
        stage, step = resume_at()
        where = f"step {step:,} of {stage}" if stage else f"step {step:,}"
        for change in changed:
            logger.warning("changed from %s on: %s", where, change)
        each = [{**change._asdict(), "stage": stage, "step": step} for change in changed]
        found["changes"] = [*found.get("changes", []), *each]
    return found


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
    values["run"] |= {"fresh": False, "allow_changes": False}  # were done
    for section, name in (("data", "dir"), ("data", "folder"), ("run", "init_from")):
        if values[section][name] is not None:
            values[section][name] = str(files.user_path(values[section][name]))
    start = config.run.init_from
    for name, value in values.items():
        if value is not None and value == start:  # the same place, as an experiment names it
            values[name] = values["run"]["init_from"]
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


def _check(path: Path, values: dict[str, Any], config: Any) -> tuple[dict[str, Any], list[Change]]:
    """The contents of config.json, {} where there is none, and the changes that are allowed."""
    directory = path.parent
    if not path.exists():
        if directory.exists() and not all(_is_kept(p.name) for p in directory.iterdir()):
            raise ConfigError(f"{directory} is not empty and holds no run: give another --run.dir")
        return {}, []
    old = load(path)
    if old.get("experiment") != values["experiment"]:
        raise ConfigError(
            f"{directory} is a run of {old.get('experiment')}: give another --run.dir"
        )
    if config.run.fresh:
        return old, []
    before = as_json(dataclasses.asdict(parse(type(config), old.get("config"), str(path))))
    now = values["config"]["run"]
    now["init_from"] = now["init_from"] or before["run"]["init_from"]  # was done, or is resumed
    changed = list(differences(before, values["config"]))
    if start := next((c for c in changed if c.setting == "--run.init-from"), None):
        raise ConfigError(
            f"{start} in {directory}: a run takes weights at its start alone; leave the flag out, "
            "or give another --run.dir"
        )
    if rank := next((c for c in changed if c.setting == "--run.score"), None):
        raise ConfigError(
            f"{rank} in {directory}: its checkpoints are ranked by one score; repeat it, or give "
            "another --run.dir"
        )
    changed += _other_images(old, values, before, changed)
    if changed and not config.run.allow_changes:
        first = "the images are others" if changed[0].setting == _IMAGES else changed[0]
        raise ConfigError(
            f"{directory} holds a run with other settings ({first}): repeat those, give another "
            "--run.dir, or go on with the changes by --run.allow-changes"
        )
    if changed:
        _check_classes(old.get("images"), values["images"])
    return old, changed


def _other_images(
    old: dict[str, Any], new: dict[str, Any], before: dict[str, Any], known: list[Change]
) -> list[Change]:
    """How the images differ from those of the run, beside the changes that are known."""
    theirs = old["images"] if isinstance(old.get("images"), dict) else {}
    ours = new["images"]
    # Earlier versions did not record all that is known of the images.
    recorded = {name: value for name, value in ours.items() if name in theirs}
    if recorded.get("fingerprint") and theirs == recorded:
        return []
    found = differences(before["data"], new["config"]["data"], "data.", WHERE)
    was, now = (f"{each.get('count')} of {each.get('fingerprint')}" for each in (theirs, ours))
    return [*(change for change in found if change not in known), Change(_IMAGES, was, now)]


def _check_same(first_weights: dict[str, Any], recorded: dict[str, Any]) -> None:
    """What a run that has no checkpoint yet starts from must still be what is recorded."""
    old = recorded.get("init_from", first_weights)
    if old["sha256"] != first_weights["sha256"]:
        raise ConfigError(
            f"{first_weights['directory']} holds other weights than this run started from (step "
            f"{old['step']:,}): put those back, or start again with --run.fresh"
        )


def _check_classes(old: Any, new: dict[str, Any]) -> None:
    """A label must stay the class that it was."""
    for what in ("names", "classes"):
        if isinstance(old, dict) and what in old and old[what] != new[what]:
            raise ConfigError(
                "--run.allow-changes takes other images, but of the same classes: they were "
                f"{_listed(old[what])}, now {_listed(new[what])}"
            )


def _listed(classes: Any) -> str:
    return ", ".join(map(str, classes)) or "none" if isinstance(classes, list) else str(classes)
