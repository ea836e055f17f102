"""config.json: the settings of a run as data, never code."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from genjax import files
from genjax.errors import ConfigError
from genjax.limits import flag

# A resumed run may differ in these: they change how far, how often and where, not what is computed.
FREE = {
    "run": (
        "steps",
        "minutes",
        "dir",
        "every",
        "log",
        "scan_steps",
        "samples",
        "keep",
        "sharded",
        "devices",
        "non_finite",
        "distributed",
        "coordinator",
        "processes",
        "process",
        "fresh",
        "allow_changes",
        "seeds",
    ),
    # What is read by them is compared as images: their shape, number and fingerprint.
    "data": ("dir", "download", "name", "folder", "size", "channels"),
}
# Settings of earlier versions, by section: {old name: name}.
RENAMED = {"run": {"dispatch": "scan_steps"}}
MAX_BYTES = 1 << 20  # of a config.json: some hundred times what ours take

C = TypeVar("C")


def load(path: Path) -> dict[str, Any]:
    """The contents of a config.json.

    Args:
      path: the file.

    Returns:
      Its JSON object; settings of earlier versions have today's names.

    Raises:
      ConfigError: where there is none, or it cannot be read.
    """
    try:
        values = files.read_json(path, MAX_BYTES)
    except FileNotFoundError:
        raise ConfigError(_without_config(path)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    for section, names in RENAMED.items():
        config = values.get("config")
        settings = config.get(section) if isinstance(config, dict) else None
        for old, name in names.items():
            if isinstance(settings, dict) and old in settings:
                settings.setdefault(name, settings.pop(old))
    config = values.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    if isinstance(data, dict) and data.get("folder") is not None:
        data.setdefault("rules", 1)  # written before there were others
    return values


def recorded_section(path: Path, name: str) -> Any:
    """A section of the settings in a config.json.

    Args:
      path: the file.
      name: of the section, such as "run".

    Returns:
      Its contents as they are; None where there is none.

    Raises:
      ConfigError: as for `load`.
    """
    settings = load(path).get("config")
    return settings.get(name) if isinstance(settings, dict) else None


def _without_config(path: Path) -> str:
    place = path.parent
    seeds = [each.parent for each in place.glob("seed_*/config.json")]
    if not seeds:
        return f"{place} is no run directory: it has no {path.name}"
    first = min(seeds, key=lambda seed: (len(seed.name), seed.name))
    return f"{place} holds runs of {len(seeds)} seeds: name one of them, such as {first}"


def parse(kind: type[C], values: Any, where: str) -> C:
    """A dataclass from the dict that `dataclasses.asdict` and JSON made of it.

    A setting that is not there, as it is younger than the file, takes its default; one whose
    metadata has a function "absent", what that returns for the values that are there.

    Args:
      kind: the dataclass, of plain values and further dataclasses.
      values: the dict.
      where: what the message calls it.

    Returns:
      An instance of `kind`.

    Raises:
      ConfigError: where names or types do not fit.
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

    found = {name: value(name) for name in values}
    for name in fields.keys() - values.keys():
        if absent := fields[name].metadata.get("absent"):
            found[name] = absent(found)
    return kind(**found)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) < 100 else f"{shown[:100]}…"


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        length = len(parts) == len(value) or ... in parts if isinstance(value, tuple) else False
        return length and all(_fits(v, parts[0]) for v in value)
    if origin is typing.Literal:
        return value in parts
    if parts:  # a union
        return any(_fits(value, part) for part in parts)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is (type(None) if hint is None else hint)


def as_json(values: Any) -> Any:
    """What JSON makes of plain values: tuples become lists.

    Args:
      values: dicts, lists and tuples of plain values.

    Returns:
      The same with lists for tuples.
    """
    if isinstance(values, dict):
        return {key: as_json(value) for key, value in values.items()}
    return [as_json(v) for v in values] if isinstance(values, list | tuple) else values


def _by_number(value: Any, settings: dict[str, Any]) -> Any:
    return settings["run"]["steps"] if value == "steps" else value


class Change(NamedTuple):
    """A setting that differs from that of the run.

    Attributes:
      setting: its flag, or what else it is.
      before: of the run, as JSON has it.
      after: given now.
    """

    setting: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.setting} was {self.before}, now {self.after}"


def differences(
    old: dict[str, Any],
    new: dict[str, Any],
    path: str = "",
    free: Mapping[str, tuple[str, ...]] = FREE,
) -> Iterator[Change]:
    """The settings that differ where a resumed run does not differ by itself.

    Args:
      old: the settings of the run, as JSON has them.
      new: those given now.
      path: of the section, with a dot behind.
      free: the settings that may differ, by section.

    Yields:
      Each of them, in the order of their names.
    """
    for name in sorted(old.keys() | new.keys()):
        if name in free.get(path.removesuffix("."), ()):
            continue
        before, after = old.get(name), new.get(name)
        if not path and before != after and "steps" in (before, after):  # the last step, by name
            before, after = _by_number(before, old), _by_number(after, new)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differences(before, after, f"{path}{name}.", free)
        elif not _same(before, after):
            yield Change(flag(f"{path}{name}"), before, after)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b or (a != a and b != b)  # NaN is NaN
