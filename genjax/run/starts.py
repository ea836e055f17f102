"""starts.jsonl: with what command, code, device and versions a run was started each time."""

from __future__ import annotations

import dataclasses
import logging
import platform
import shlex
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import Any

import jax

import genjax
from genjax import files
from genjax.limits import flag
from genjax.run.config import as_json
from genjax.run.records import STARTS

logger = logging.getLogger(__name__)

GIT_SECONDS = 5


def record(directory: Path, config: Any, step: int) -> None:
    """Adds a row: {"step", "time", "command", "commit", "device", "devices", "versions", …}.

    "changed" holds the default of each setting that has another value: {flag: default}.

    Args:
      directory: the run's.
      config: its settings, a dataclass.
      step: where training starts.
    """
    row = {
        "step": step,
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": command(),
        "commit": commit(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {
            "genjax": genjax.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
        "changed": changed(config),
    }
    files.append_rows(directory / STARTS, [row])


def changed(config: Any) -> dict[str, Any]:
    """The settings that differ from their defaults.

    Args:
      config: a dataclass of plain values and further dataclasses.

    Returns:
      {flag: its default}; a setting without a default is not among them.
    """
    return dict(_changed(as_json(dataclasses.asdict(config)), _defaults(type(config)), ""))


def _changed(values: Any, defaults: Any, path: str) -> typing.Iterator[tuple[str, Any]]:
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(values[name], dict):
            yield from _changed(values[name], default, f"{path}{name}.")
        elif values[name] != default:
            yield flag(path + name), default


def _defaults(kind: type) -> dict[str, Any]:
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            default = field.default
        elif dataclasses.is_dataclass(hints[field.name]):
            found[field.name] = _defaults(typing.cast(type, hints[field.name]))
            continue
        else:
            continue
        found[field.name] = as_json(_plain(default))
    return found


def _plain(value: Any) -> Any:
    is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_dataclass else value


def command() -> str | None:
    """How the process was started.

    Returns:
      The command, with ~ for the home directory; None in a notebook or a prompt.
    """
    if getattr(sys.modules.get("__main__"), "__file__", None) is None:
        return None
    words = shlex.join(["python", *sys.orig_argv[1:]])
    home = str(Path.home())
    return words.replace(f"{home}/", "~/") if len(home) > 1 else words


def commit() -> str | None:
    """The commit of the code that was started, where git knows one.

    Returns:
      Its hash, with "and changes" where files differ from it; None where there is none.
    """
    place = getattr(sys.modules.get("__main__"), "__file__", None)
    if place is None:
        return None
    found = _git(place, "rev-parse", "HEAD")
    if not found:
        return None
    return f"{found} and changes" if _git(place, "status", "--porcelain", "-uno") else found


def _git(place: str, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(place).resolve().parent), *words],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
