"""A page that compares runs: settings that differ, curves over each other, sheets side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import genjax
from genjax.errors import ConfigError
from genjax.report import rendering
from genjax.report.embedding import Embedder
from genjax.report.page import Page, Section, Sheets, Table
from genjax.run import page_curves, page_facts, page_images, records, score_rows
from genjax.run.config import load
from genjax.run.listing import Listed, listed
from genjax.run.records import SCORES, number, text
from genjax.run.run_page import SCORES_LEAD

NOT_SETTINGS = {"--run.dir", "--run.fresh", "--run.allow-changes"}


def write(runs: Sequence[Path], to: Path) -> Path:
    """Writes the page that compares runs.

    Args:
      runs: their directories.
      to: the file.

    Returns:
      The file.

    Raises:
      ConfigError: where a directory holds no run, or a file is there that is no page of genjax.
    """
    rendering.save(to, rendering.render(page(runs, Embedder())))
    return to


def page(runs: Sequence[Path], embedder: Embedder) -> Page:
    """Reads what the runs' directories hold.

    Args:
      runs: the directories.
      embedder: encodes images.

    Returns:
      The page.

    Raises:
      ConfigError: where a config.json cannot be used.
    """
    names = dict(zip(_names(runs), runs, strict=True))
    values = {name: load(path / "config.json") for name, path in names.items()}
    about = {name: listed(path, None, path, 0) for name, path in names.items()}
    columns = {name: records.metrics(path) for name, path in names.items()}
    scores = {name: records.rows(path / SCORES) for name, path in names.items()}
    sheets = [_sheets(name, path, embedder) for name, path in names.items()]
    return Page(
        f"{len(runs)} runs compared",
        [
            Section("overview", "Overview", [_overview(about, columns)], layout="stack"),
            Section("samples", "Samples", [each for some in sheets for each in some]),
            Section("settings", "Settings that differ", [_settings(values)], layout="stack"),
            Section("curves", "Curves", page_curves.of_metrics(columns)),
            Section(
                "scores",
                "Scores",
                [*_scores(scores), *_verdicts(names), *page_curves.of_scores(scores)],
                SCORES_LEAD,
            ),
        ],
        footer=f"Written {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} by genjax "
        f"{genjax.__version__}. This file loads nothing from elsewhere.",
    )


def _names(runs: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell the runs apart."""
    parts = [path.absolute().parts for path in runs]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-n:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return [rendering.shown(name) for name in names]


def _overview(about: dict[str, Listed], columns: Any) -> Table:
    rows = []
    for name, run in about.items():
        step = "" if run.step is None else f"{run.step:,}"
        step += f" of {run.asked:,}" if run.asked else ""
        took = records.seconds(columns[name])
        best = "{} {:.5g} at {:,}".format(*run.best) if run.best else ""
        time_taken = page_facts.duration(took) if took > 0 else ""
        rows.append([name, run.experiment, step, time_taken, best, "; ".join(run.damaged)])
    head = ["run", "experiment", "step", "training time", "best score", "damage"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table(head, rows)


def _settings(values: dict[str, Any]) -> Table:
    each = {name: dict(page_facts.flattened(v.get("config"))) for name, v in values.items()}
    for name, v in values.items():
        images = v.get("images")
        each[name]["images"] = text(images, "count")
        each[name]["fingerprint of the images"] = text(images, "fingerprint")
        each[name]["genjax"] = text(v, "genjax")
        each[name]["jax"] = text(v, "jax", "version")
    flags = dict.fromkeys(flag for found in each.values() for flag in found)
    rows = []
    for flag in flags.keys() - NOT_SETTINGS:
        cells = [found.get(flag, "–") for found in each.values()]
        if len(set(cells)) > 1:
            rows.append([flag, *cells])
    order = list(flags)
    rows.sort(key=lambda row: order.index(row[0]))
    same = f"The other {len(flags.keys() - NOT_SETTINGS) - len(rows):,} are the same."
    return Table(["setting", *each], rows[: page_facts.MOST_ROWS], more=same)


def _sheets(name: str, folder: Path, embedder: Embedder) -> Iterable[Sheets]:
    for sheets in page_images.over_time(folder, embedder, linked=True):
        if sheets.title == "Samples":
            yield replace(sheets, title=name)


def _scores(scores: dict[str, list[Any]]) -> list[Table]:
    """The latest of each score; those that differ in what they are of are in other rows."""
    latest: dict[tuple[str, ...], dict[str, Any]] = {}
    for run, rows in scores.items():
        for row in rows:
            if text(row, "name") and math.isfinite(number(row, "value")):
                latest.setdefault(_terms(row), {})[run] = row
    rows = []
    for terms, of_runs in sorted(latest.items()):
        cells = [_cell(of_runs[run]) if run in of_runs else "–" for run in scores]
        floor = number(next(iter(of_runs.values())).get("floor"), "value")
        rows.append([*terms[:3], *cells, f"{floor:.4g}" if math.isfinite(floor) else "–"])
    if not rows:
        return []
    more = (
        "The last of each run, with its interval. Scores of another network, number of images, "
        "reference, resizing or method are not to be compared, and have a row of their own."
    )
    head = ["score", "n", "against", *scores, "floor"]
    return [Table(head, rows[: page_facts.MOST_ROWS], more=more)]


def _verdicts(runs: dict[str, Path]) -> list[Table]:
    """What `compare` says of the first run and each of the others."""
    (first, ours), *others = runs.items()
    rows = []
    for name, theirs in others:
        try:
            found = score_rows.comparisons(str(ours), str(theirs))
        except ConfigError:  # they have no score in common
            continue
        rows += [[first, name, str(each)] for each in found]
    more = (
        "The interval is of the difference, paired in the reference: two that overlap may differ."
    )
    head = ["first", "second", "which is better"]
    return [Table(head, rows[: page_facts.MOST_ROWS], "Compared", more=more)] if rows else []


def _terms(row: Any) -> tuple[str, ...]:
    """What two scores must share to be compared."""
    names = ("name", "n", "reference", "n_reference", "network", "sha256", "resizing", "method")
    return tuple(text(row, name) for name in names)


def _cell(row: Any) -> str:
    value, low, high = (number(row, name) for name in ("value", "low", "high"))
    ends = f" ({low:.4g} to {high:.4g})" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{value:.4g}{ends}, step {row['step']:,}"
