"""The settings every experiment shares, and config.json, which is data and never code."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from genjax import files


class ConfigError(Exception):
    """Settings that cannot be used; the message is one line that says what to do."""

    exit_code = 2


@dataclass(frozen=True)
class Data:
    """The images to learn from: a TFDS set, or a folder."""

    name: str = "fashion_mnist_6k"
    """A TFDS image set; fashion_mnist_6k and shapes64 come with genjax."""
    dir: str | None = None
    """Where prepared TFDS sets lie. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    folder: str | None = None
    """A folder of images instead; subfolders are the classes."""
    size: int | None = None
    """Side length in pixels, by resizing and a centre crop. None: as they are (folders: 64)."""
    channels: int | None = None
    """1 for grey, 3 for colour. None: as they are (folders: 3)."""
    bad: Literal["refuse", "skip"] = "refuse"
    """What to do about a damaged or oversized file in a folder."""
    download: bool = False
    """Let TFDS download a set that is not prepared (this step needs TensorFlow)."""


@dataclass(frozen=True)
class Run:
    """How long, how large, where."""

    steps: int
    """Train steps in all; a resumed run continues up to here."""
    batch: int
    """Images in a step, over all devices and processes."""
    dir: str | None = None
    """The run's directory. None: runs/ and the experiment's name."""
    seed: int = 0
    """Of the parameters, the noise and the order of the images."""
    every: int | None = None
    """Steps between summaries, pictures and checkpoints. None: an epoch."""
    dispatch: int | None = None
    """The most steps in one dispatch to the device. None: 50, but 1 for convolutions on a CPU. A
    convolutional run that goes on with 1 after more, or the reverse, rounds differently."""
    samples: int = 64
    """Images in samples/step_N.png."""
    sharded: bool = False
    """Shard parameters over the devices (jit) instead of copying them to each (pmap)."""
    devices: int | None = None
    """Devices to use in each process. None: all."""
    non_finite: Literal["stop", "skip", "rollback"] = "stop"
    """What to do about a loss or gradient that is NaN or infinite: stop, leave that update out, or
    go back to the last checkpoint with other noise. Each is told in faults.jsonl."""
    distributed: bool = False
    """Join the run's other processes first (jax.distributed.initialize)."""
    coordinator: str | None = None
    """HOST:PORT where process 0 listens. None: found out (TPU, Slurm, Open MPI)."""
    processes: int | None = None
    """How many processes there are in all. None: found out."""
    process: int | None = None
    """Which of them this is, from 0. None: found out."""

    def __post_init__(self) -> None:
        least = {"steps": 0, "seed": 0, "batch": 1, "every": 1, "dispatch": 1, "samples": 1}
        for name, low in {**least, "devices": 1, "processes": 1, "process": 0}.items():
            if (value := getattr(self, name)) is not None and value < low:
                raise ConfigError(f"--run.{name} must be at least {low}, not {value}")


# A resumed run may differ in these: they change how far, how often and where, not what is computed.
FREE = {
    "run": (
        "steps",
        "dir",
        "every",
        "dispatch",
        "samples",
        "sharded",
        "devices",
        "non_finite",
        "distributed",
        "coordinator",
        "processes",
        "process",
    ),
    "data": ("dir", "download"),
}
MAX_BYTES = 1 << 20  # of a config.json: some hundred times what ours take

C = TypeVar("C")


def save(path: Path, values: dict[str, Any]) -> None:
    """Writes settings as JSON, completely or not at all."""
    half = path.with_suffix(".half")
    half.unlink(missing_ok=True)  # a link there would lead elsewhere
    half.write_text(json.dumps(values, indent=2) + "\n")
    half.replace(path)


def load(path: Path) -> dict[str, Any]:
    """The settings in a config.json; ConfigError where there are none that can be read."""
    try:
        return files.read_json(path, MAX_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} is no run directory: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def parse(kind: type[C], values: Any, where: str) -> C:
    """A dataclass of plain values from the dict that dataclasses.asdict and JSON made of it.

    A setting that is not there, as it is younger than the file, takes its default.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    required = {
        name
        for name, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING
    }
    if not isinstance(values, dict) or not required <= values.keys() <= fields.keys():
        raise ConfigError(f"{where} does not fit this experiment: expected {sorted(fields)}")
    hints = typing.get_type_hints(kind)

    def value(name: str) -> Any:
        given = values[name]
        if dataclasses.is_dataclass(hints[name]):
            return parse(typing.cast(type, hints[name]), given, f"{where}, {name}")
        given = tuple(given) if isinstance(given, list) else given
        if not _fits(given, hints[name]):
            raise ConfigError(f"{where}: {name} cannot be {_short(given)}")
        return given

    return kind(**{name: value(name) for name in values})


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) < 100 else f"{shown[:100]}…"


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, parts[0]) for v in value)
    if origin is typing.Literal:
        return value in parts
    if parts:  # a union
        return any(_fits(value, part) for part in parts)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is (type(None) if hint is None else hint)


def difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> str | None:
    """The first setting that differs where a resumed run may not differ, in words."""
    for name in sorted(old.keys() | new.keys()):
        if name in FREE.get(path.removesuffix("."), ()):
            continue
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            if found := difference(before, after, f"{path}{name}."):
                return found
        elif before != after:
            return f"--{path}{name} was {before}, now {after}".replace("_", "-")
    return None
