"""Which values a setting may have, and the one check of all of them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from genjax.errors import ConfigError

_MOST_INT = 2**31 - 1  # jax's indices have 32 bits
_MOST_FLOAT = 3.4e38  # of float32


@dataclass(frozen=True)
class Limits:
    """The values that a number may have; for a tuple, the length that it may have.

    Attributes:
      least: the least.
      most: the greatest.
      above: whether the least itself is excluded.
      below: whether the greatest itself is excluded.
    """

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def broken(self, value: float) -> str | None:
        """The limit that a value breaks.

        Args:
          value: a number.

        Returns:
          "at least 1", say; None where it lies within.
        """
        if not (value > self.least if self.above else value >= self.least):
            return f"{'above' if self.above else 'at least'} {self.least:,}"
        if not (value < self.most if self.below else value <= self.most):
            return f"{'below' if self.below else 'at most'} {self.most:,}"
        return None


Count = Annotated[int, Limits(1, _MOST_INT)]  # of what must be there
Natural = Annotated[int, Limits(0, _MOST_INT)]
Seed = Annotated[int, Limits(0, 2**32 - 1)]  # jax drops the bits above, so that two would be one
Positive = Annotated[float, Limits(0, above=True)]
NonNegative = Annotated[float, Limits(0)]
Share = Annotated[float, Limits(0, 1, below=True)]  # a decay, a probability of dropout
Counts = Annotated[tuple[Count, ...], Limits(1)]  # at least one of them
Width = Annotated[int, Limits(1, 2**16)]  # features of a layer: no device holds a wider one
Widths = Annotated[tuple[Width, ...], Limits(1)]
Depth = Annotated[int, Limits(1, 1000)]  # layers after each other, each of which must be traced

_INT = Limits(-(2**63), 2**63 - 1)
_FLOAT = Limits(-_MOST_FLOAT, _MOST_FLOAT)


def check(settings: Any, prefix: str = "") -> None:
    """Checks every setting by itself: numbers are finite and within their limits, names not empty.

    Args:
      settings: a dataclass of plain values and further dataclasses; limits are in the annotations,
        as `Count` or `Annotated[int, Limits(2)]`.
      prefix: of the flags' names, with a dot behind.

    Raises:
      ConfigError: where one has another value; the message names the flag.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        _check(flag(prefix + field.name), value, hints[field.name])


def flag(name: str) -> str:
    """A setting's flag.

    Args:
      name: of the setting, with those of its sections: "run.scan_steps".

    Returns:
      "--run.scan-steps".
    """
    return f"--{name.replace('_', '-')}"


def check_sides(shape: Sequence[int], halvings: int, flag: str) -> None:
    """Checks that a network can halve images as often as its settings say.

    Args:
      shape: (H, W, C) of an image.
      halvings: how often.
      flag: what says so, for the message.

    Raises:
      ConfigError: where the sides are not divisible.
    """
    unit = 2**halvings
    if any(side % unit or not side for side in shape[:2]):
        below = max(unit, min(shape[:2]) // unit * unit)
        raise ConfigError(
            f"{flag} halves images {halvings} times: their sides must be multiples of {unit}, not "
            f"{shape[0]}x{shape[1]}; give --data.size {below} or another {flag}"
        )


def check_text(name: str, value: str) -> None:
    """Checks that a text can be a file's name.

    Args:
      name: what the message calls it.
      value: the text.

    Raises:
      ConfigError: where it has a character without an encoding, as paths get in an ASCII locale.
    """
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        raise ConfigError(
            f"{name} has characters that are no text: {value!a}; where the locale is ASCII start "
            "with PYTHONUTF8=1"
        )


def _check(name: str, value: Any, hint: Any) -> None:
    if dataclasses.is_dataclass(value):
        check(value, f"{name[2:]}.")
    elif isinstance(value, str):
        if not value.strip():
            raise ConfigError(f"{name} is empty")
        check_text(name, value)
    elif isinstance(value, tuple):
        for limits in _limits(hint, length=True):
            if broken := limits.broken(len(value)):
                raise ConfigError(f"{name} needs {broken} value, not {len(value)}")
        for each in value:
            _check(name, each, _element(hint))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, not {value}")
        for limits in (*_limits(hint), _INT if isinstance(value, int) else _FLOAT):
            if broken := limits.broken(value):
                raise ConfigError(f"{name} must be {broken}, not {value:,}"[:200])


def _limits(hint: Any, *, length: bool = False) -> list[Limits]:
    """The limits of a number in a hint, which may be a union; with `length`, those of a tuple."""
    own = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Limits)]
    if own and (typing.get_origin(hint.__origin__) is tuple) is length:
        return own
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [each for part in typing.get_args(hint) for each in _limits(part, length=length)]
    return []


def _element(hint: Any) -> Any:
    """The hint of a tuple's elements."""
    for part in (hint, *typing.get_args(hint)):
        part = getattr(part, "__origin__", part) if hasattr(part, "__metadata__") else part
        if typing.get_origin(part) is tuple:
            return typing.get_args(part)[0]
    return hint
