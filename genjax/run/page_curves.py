"""The curves of a run's page: metrics, scores with their intervals, and profiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from genjax.report.page import Chart, Series
from genjax.run.records import Column, number, text
from genjax.train.window import TIMINGS

MOST_CHARTS, MOST_SERIES = 40, 16
LAST = ("grad_norm", "learning_rate", TIMINGS[0])  # of interest where something is wrong
# What the people of a family look at first, by the last part of the metric's name.
HINTS = {
    "loss": "What the optimizer lowers. Of a GAN neither curve says how good the images are.",
    "margins": "The critic's belief that an image is real, for real and for drawn ones. Both at"
    " 0.5: it cannot tell them apart. 1 and 0: it is far ahead, and the generator learns little.",
    "kl": "What the code tells about the image, in nats. Near 0: the code is ignored.",
    "nll": "The cost of the image given its code, in nats. Test above train: overfitting.",
    "negative_elbo": "Upper bound of the negative log-likelihood of held-out images, in nats.",
    "sliced_wasserstein": "Distance between drawn and held-out images. Lower is better; biased"
    " upwards by few images.",
    "grad_norm": "Length of the gradient. Spikes come before trouble.",
    TIMINGS[0]: "Without compilation, evaluation and saving.",
}
Marks = Sequence[tuple[float, str]]


def of_metrics(runs: Mapping[str, Mapping[str, Column]], marks: Marks = ()) -> list[Chart]:
    """A chart for each kind of metric: training, test, and all runs over each other.

    Args:
      runs: {name of the run, "" where there is one: {name of the metric: values}}.
      marks: [(step, text)] of what happened there.

    Returns:
      The charts, losses first.
    """
    groups: dict[str, list[Series]] = {}
    for i, (run, columns) in enumerate(runs.items()):
        for name in sorted(columns.keys() - {TIMINGS[1]}, key=_order):
            group = groups.setdefault(_group(name, comparing=bool(run)), [])
            curve = Series(_named(run, name), columns[name].steps, columns[name].values)
            if run:  # a run has one color everywhere
                second = any(series.color == i for series in group)
                curve = replace(curve, color=i, dashed=second or i >= 8)
            group.append(curve)
    ordered = sorted(groups, key=lambda group: (_rank(group), group))[:MOST_CHARTS]
    return [
        Chart(
            _title(group),
            groups[group][:MOST_SERIES],
            hint=HINTS.get(group.rpartition("/")[2], ""),
            marks=marks,
        )
        for group in ordered
    ]


def _named(run: str, name: str) -> str:
    return f"{run}: {name}" if run else name


def _group(name: str, *, comparing: bool) -> str:
    """What is drawn into one chart."""
    last = name.rpartition("/")[2]
    if last in ("real", "fake") and "/" in name:
        return "margins"
    if comparing and last in ("loss", "grad_norm"):  # of other players they are other things
        return name
    if name.startswith("alarm/"):  # an alarm and its numbers
        return f"alarm/{last.partition('_')[0]}"
    return last


def _title(group: str) -> str:
    if group.startswith("alarm/"):
        return f"{group.removeprefix('alarm/')} alarm"
    return "D(real) and D(fake)" if group == "margins" else group.replace("_", " ")


def _hint(group: str) -> str:
    return HINTS.get(group.rpartition("/")[2], "")


def _rank(group: str) -> int:
    last = group.rpartition("/")[2]
    if last in LAST:
        return 50 + LAST.index(last)
    if group.startswith("alarm/"):
        return 90
    return {"loss": 0, "margins": 1, "negative_elbo": 2}.get(last, 10)


def _order(name: str) -> tuple[bool, str]:
    return name.startswith("test/"), name


def of_scores(runs: Mapping[str, Iterable[Any]], marks: Marks = ()) -> list[Chart]:
    """A chart for each score of scores.jsonl, with intervals and the floor.

    Scores of another number of images or another reference are other curves.

    Args:
      runs: {name of the run, "" where there is one: its rows}.
      marks: [(step, text)] of what happened there.

    Returns:
      The charts.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for run, rows in runs.items():
        for row in rows:
            if (name := text(row, "name")) and math.isfinite(number(row, "value")):
                found.setdefault(name, {}).setdefault(_named(run, _against(row)), []).append(row)
    charts = []
    for name, curves in list(found.items())[:MOST_CHARTS]:
        better = text(next(iter(curves.values()))[-1], "better")
        charts.append(
            Chart(
                name,
                [_of_rows(curve, rows) for curve, rows in list(curves.items())[:MOST_SERIES]],
                hint=f"{better.capitalize()} is better." if better else "",
                marks=marks,
            )
        )
    return charts


def _against(row: Any) -> str:
    n, reference = text(row, "n"), text(row, "reference")
    return f"n {n} against {reference}" if reference else f"n {n}" if n else "score"


def _of_rows(name: str, rows: Sequence[Any]) -> Series:
    latest = {row["step"]: row for row in rows}  # of a step that was scored again
    each = list(latest.values())
    low, high = ([number(row, end) for row in each] for end in ("low", "high"))
    bands = any(map(math.isfinite, low)) and any(map(math.isfinite, high))
    floor = number(each[-1].get("floor"), "value")
    return Series(
        name,
        list(latest),
        [number(row, "value") for row in each],
        low if bands else None,
        high if bands else None,
        floor if math.isfinite(floor) else None,
    )


def of_profiles(rows: Iterable[Any], most: int = 4) -> list[Chart]:
    """A chart for each profile of profiles.jsonl, with a few steps over each other.

    Args:
      rows: {"step", "name", "axis", "x": numbers, "y": numbers}, and "hint".
      most: steps to draw, the last among them.

    Returns:
      The charts.
    """
    found: dict[str, dict[int, Any]] = {}
    for row in rows:
        if text(row, "name") and _is_profile(row):
            found.setdefault(text(row, "name"), {})[row["step"]] = row
    charts = []
    for name, steps in list(found.items())[:MOST_CHARTS]:
        chosen = spread(sorted(steps), most)
        last = steps[chosen[-1]]
        series = [
            Series(f"step {step:,}", _finite(steps[step]["x"]), _finite(steps[step]["y"]))
            for step in reversed(chosen)
        ]
        charts.append(
            Chart(name, series, x=text(last, "axis") or "position", hint=text(last, "hint"))
        )
    return charts


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Some of the items, evenly spread, both ends included.

    Args:
      items: in order.
      most: how many.

    Returns:
      At most so many.
    """
    n = len(items)
    if n <= most:
        return list(items)
    return [items[round(i * (n - 1) / (most - 1))] for i in range(most)]


def _is_profile(row: Any) -> bool:
    x, y = row.get("x"), row.get("y")
    return isinstance(x, list) and isinstance(y, list) and 0 < len(x) == len(y) <= 10_000


def _finite(values: Sequence[Any]) -> list[float]:
    return [number({"value": value}, "value") for value in values]
