"""What an audit decided: found or not, the numbers behind it, and what to do."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genjax.errors import printable

WIDTH = 96  # of printed lines
MOST_TEXT = 2000  # characters of a text that comes from a file


@dataclass(frozen=True)
class Finding:
    """The decision of one audit.

    Attributes:
      name: what was looked for: "memorization", "collapse", "bias", "blur", "checkerboard" or
        "overfitting".
      found: whether it is there.
      summary: one line with the numbers.
      advice: one line, what to do.
      numbers: {name: number}; NaN where one could not be computed.
      error_rate: nominal probability that it is found where it is not there.
      n: samples that were looked at.
      n_reference: images they were compared with.
      decided: False where the audit cannot tell, with so few images say; then `found` is False.
      network: what made the features; "pixels" without one.
      seed: of the samples and of random choices.
    """

    name: str
    found: bool
    summary: str
    advice: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    error_rate: float = 0.01
    n: int = 0
    n_reference: int = 0
    decided: bool = True
    network: str = "pixels"
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it.

        Returns:
          {name of an attribute: value}.
        """
        return {**dataclasses.asdict(self), "numbers": dict(self.numbers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finding:
        """A finding from what a file holds, which may be a stranger's.

        Args:
          values: `as_dict` of one; other entries, such as "step", are ignored.

        Returns:
          The finding; numbers that JSON has as null are NaN.

        Raises:
          ValueError: where an entry is missing or of another type.
        """
        found: dict[str, Any] = {}
        for each in dataclasses.fields(cls):
            if each.name in values:
                value = values[each.name]
            elif each.name in ("name", "found", "summary", "advice"):
                raise ValueError(f"a finding has no {each.name}")
            else:
                continue
            found[each.name] = _checked(each.name, str(each.type), value)
        return cls(**found)

    @property
    def verdict(self) -> str:
        """ "found", "not found" or "cannot tell"."""
        return "found" if self.found else "not found" if self.decided else "cannot tell"

    def __str__(self) -> str:
        lines = textwrap.wrap(f"{self.name}: {self.verdict}. {self.summary}", WIDTH)
        if self.found or not self.decided:
            lines += textwrap.wrap(self.advice, WIDTH - 2)
        return "\n  ".join(lines)


def _checked(name: str, kind: str, value: Any) -> Any:
    if kind == "str" and isinstance(value, str):
        return printable(value[:MOST_TEXT])
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and type(value) is int:
        return value
    if kind == "float" and _is_number(value):
        return _number(value)
    if isinstance(value, dict) and all(map(_is_number, value.values())) and kind[0] == "M":
        return {printable(key[:200]): _number(number) for key, number in value.items()}
    raise ValueError(f"the entry {name} of a finding is no {kind.partition('[')[0].lower()}")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: float | None) -> float:
    if value is None or abs(value) > 1e300:
        return math.nan
    return float(value)
