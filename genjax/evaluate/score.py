"""A score that says what it is of: interval, n, reference, network, resizing, seed and floor."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from genjax.errors import GenjaxError, printable
from genjax.evaluate.estimate import LEVEL, Estimate


class ComparisonError(GenjaxError, ValueError):
    """Two scores that cannot be ranked; the message says in what they differ."""


@dataclass(frozen=True)
class Score:
    """A score of samples, with everything that it depends on beside the model.

    Attributes:
      name: what it is and of which network's features: "kernel distance, vgg16".
      value: the score.
      low: lower end of its interval.
      high: upper end of its interval.
      level: confidence of the interval, in 0..1.
      method: how the interval comes about.
      better: whether a lower or a higher value is better.
      n: samples.
      n_reference: real images that they are compared with; 0 for a score of samples alone.
      reference: data set and split of those.
      network: name of the network of the features.
      sha256: of the file of its weights; None where it has none.
      resizing: what happens to images before the network.
      seed: of the samples' noise and the order of the images.
      floor: {"value", "low", "high", "n"}, the same score of n real images that are not in the
        reference; None where there are not as many.
      fingerprint: digest of the reference's images.
      replicates: the score without each fold of the samples, and of the reference: what `compare`
        needs for a paired interval.
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    method: str
    better: Literal["lower", "higher"]
    n: int
    n_reference: int
    reference: str
    network: str
    sha256: str | None
    resizing: str
    seed: int
    floor: dict[str, float] | None
    fingerprint: str = ""
    replicates: tuple[tuple[float, ...], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it.

        Returns:
          A dict of plain values.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Score:
        """A score from what `as_dict` and JSON made of it; further names are ignored.

        Args:
          values: the dict, which may be a stranger's.

        Returns:
          The score.

        Raises:
          ValueError: where it holds no score.
        """
        if not isinstance(values, dict):
            raise ValueError("a score is a JSON object")
        given = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        folds = given.get("replicates", ())
        given["replicates"] = tuple(map(tuple, folds)) if _are_folds(folds) else ()
        kinds = {"better": ("lower", "higher").__contains__, "floor": _is_floor, "sha256": _is_hash}
        texts = ("name", "method", "reference", "network", "resizing", "fingerprint")
        kinds |= dict.fromkeys(texts, lambda x: isinstance(x, str))
        kinds |= dict.fromkeys(("value", "low", "high", "level"), _is_number)
        kinds |= dict.fromkeys(("n", "n_reference", "seed"), lambda x: type(x) is int and x >= 0)
        for name, fits in kinds.items():
            if name not in given and name != "fingerprint":
                raise ValueError(f"a score needs {name!r}")
            if name in given and not fits(given[name]):
                raise ValueError(f"the {name} of a score cannot be {given[name]!r:.100}")
        return cls(**given)

    @classmethod
    def from_estimate(
        cls,
        estimate: Estimate,
        name: str,
        better: Literal["lower", "higher"],
        floor: Estimate | None,
        *,
        level: float = LEVEL,
        **of: Any,
    ) -> Score:
        """A score from its estimate.

        Args:
          estimate: of the samples.
          name: of the score.
          better: whether a lower or a higher value is better.
          floor: the estimate of n real images in place of the samples; None where there is none.
          level: confidence of the intervals.
          of: the other fields: n, n_reference, reference, network, ….

        Returns:
          The score.
        """
        low, high = estimate.interval(level)
        real = None
        if floor is not None:
            ends = floor.interval(level)
            real = {"value": floor.value, "low": ends[0], "high": ends[1], "n": of["n"]}
        folds = tuple(tuple(map(float, fold)) for fold in estimate.replicates)
        return cls(
            name=name,
            value=estimate.value,
            low=low,
            high=high,
            level=level,
            method=estimate.method,
            better=better,
            floor=real,
            replicates=folds,
            **of,
        )

    @property
    def estimate(self) -> Estimate:
        """Value and replicates as numbers to compute with."""
        return Estimate(self.value, tuple(map(np.asarray, self.replicates)))

    def __str__(self) -> str:
        against = f" against {self.n_reference:,} of {self.reference}" if self.n_reference else ""
        floor = f"no floor: {self.reference} has no {self.n:,} further images"
        if self.floor is not None:
            floor = f"real images {_interval(self.floor)}"
        weights = f", weights {self.sha256[:8]}" if self.sha256 else ""
        own = _interval({"value": self.value, "low": self.low, "high": self.high})
        return printable(
            f"{self.name} {own} at {self.level:.0%} by {self.method}; {floor}; {self.better} is "
            f"better; n {self.n:,}{against}; resizing {self.resizing}{weights}; seed {self.seed}"
        )


@dataclass(frozen=True)
class Comparison:
    """What two scores say about which model is better.

    Attributes:
      name: of the scores.
      difference: the first less the second.
      low: lower end of its interval.
      high: upper end of its interval.
      better: 0 for the first, 1 for the second; None where the interval holds 0.
    """

    name: str
    difference: float
    low: float
    high: float
    better: int | None

    def __str__(self) -> str:
        values = {"value": self.difference, "low": self.low, "high": self.high}
        which = "no difference" if self.better is None else f"{_ORDER[self.better]} is better"
        return printable(f"{self.name}: {which}, first less second {_interval(values)}")


_ORDER = ("the first", "the second")
# What two scores must share to be ranked.
_SAME = {
    "name": "score",
    "network": "network",
    "sha256": "weights' sha256",
    "resizing": "resizing",
    "reference": "reference",
    "fingerprint": "reference images",
    "n": "n of samples",
    "n_reference": "n of reference",
    "method": "method of the interval",
    "level": "level",
    "seed": "seed",
    "better": "direction",
}


def compare(first: Score, second: Score) -> Comparison:
    """Which of two scores is better, or that the data do not tell.

    The interval of the difference comes from a jackknife that is paired in the reference: its folds
    shift both scores alike. Two intervals that overlap may still differ by it.

    Args:
      first: a score.
      second: the same score of other samples, against the same images by the same network.

    Returns:
      The comparison.

    Raises:
      ComparisonError: where the two differ in anything but the samples, or keep no replicates.
    """
    ours, theirs = first.as_dict(), second.as_dict()
    differ = [
        f"{what} ({_short(ours[key])} and {_short(theirs[key])})"
        for key, what in _SAME.items()
        if ours[key] != theirs[key]
    ]
    if differ:
        raise ComparisonError(
            printable(f"these scores cannot be ranked, they differ in {'; '.join(differ)}")
        )
    shapes = [[len(fold) for fold in score.replicates] for score in (first, second)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ComparisonError(
            f"{printable(first.name)}: the folds are not kept, so that there is no paired interval"
        )
    difference = first.estimate.minus(second.estimate)
    low, high = difference.interval(first.level)
    lower = 0 if first.better == "lower" else 1
    better = lower if high < 0 else 1 - lower if low > 0 else None
    return Comparison(first.name, difference.value, low, high, better)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_hash(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_floor(value: Any) -> bool:
    names = ("value", "low", "high", "n")
    return value is None or (
        isinstance(value, dict)
        and value.keys() == set(names)
        and all(_is_number(value[name]) for name in names)
    )


def _are_folds(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(fold, list | tuple) and len(fold) > 1 and all(map(_is_number, fold))
        for fold in value
    )


def _interval(values: dict[str, float]) -> str:
    return f"{values['value']:.4g} ({values['low']:.4g} to {values['high']:.4g})"


def _short(value: Any) -> str:
    return value[:40] if isinstance(value, str) else str(value)
