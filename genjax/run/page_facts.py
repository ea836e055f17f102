"""What a run's page says in words and tables: progress, alarms, data, checkpoints, settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genjax import files
from genjax.limits import flag
from genjax.report.page import Bars, Facts, Note, Table
from genjax.run import history, records
from genjax.run.listing import Listed
from genjax.run.records import STARTS, Column, number, rows, text
from genjax.train.window import TIMINGS

MOST_ROWS = 200  # of a table
MOST_CLASSES = 30
PATHS = ("--data.dir", "--data.folder", "--run.dir", "--run.init-from", "--run.coordinator")
# Of the sets that come with genjax, or that its experiments name.
LICENCES = {
    "fashion_mnist_6k": "MIT, Zalando SE",
    "fashion_mnist": "MIT, Zalando SE",
    "shapes64": "none needed: drawn by a program",
}


def progress(run: Listed, values: Any, columns: Mapping[str, Column]) -> Facts:
    """How far a run is, how fast, and how good.

    Args:
      run: what its files record.
      values: the contents of config.json.
      columns: its metrics.

    Returns:
      The facts, with a bar where the number of steps is known.
    """
    step, asked = run.step or 0, run.asked
    found = [("step", f"{step:,} of {asked:,}" if asked else f"{step:,}")]
    batch, count = (number(values.get(part), key) for part, key in _sizes(values))
    if batch > 0 and count > 0:
        found.append(("epochs", f"{step * batch / count:,.1f}"))
    if (took := records.seconds(columns)) > 0:
        found.append(("training time", duration(took)))
    speed = columns[TIMINGS[0]].values[-1] if TIMINGS[0] in columns else 0
    if speed > 0:
        found.append(("speed", f"{speed:,.0f} images/s"))
        if batch > 0 and asked and asked > step:
            found.append(("time left", f"about {duration((asked - step) * batch / speed)}"))
    if run.best:
        name, value, best = run.best
        found.append(("best score", f"{name} {value:.5g} at step {best:,}"))
    latest = sorted(name for name in columns if name.startswith("test/"))
    for name in latest[:4]:
        found.append((name, f"{columns[name].values[-1]:.5g}"))
    return Facts(found, "Progress", min(1.0, step / asked) if asked else None)


def _sizes(values: Any) -> Iterator[tuple[Any, str]]:
    yield "run_settings", "batch"
    yield "images", "count"


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    Args:
      seconds: the time.

    Returns:
      "3.5 h", say.
    """
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def attention(
    folder: Path, run: Listed, values: Any, findings: list[Any], faults: list[Any]
) -> list[Note]:
    """What needs a person: alarms, faults, damage.

    Args:
      folder: of the run.
      run: what its files record.
      values: the contents of config.json.
      findings: rows of findings.jsonl.
      faults: rows of faults.jsonl.

    Returns:
      Notes, the worst first; one that says so where nothing was found.
    """
    latest = {text(row, "name"): row for row in findings if text(row, "name")}
    notes = []
    for name, row in latest.items():
        if row.get("found") is True:
            title = f"{name.capitalize()}, step {row['step']:,}."
            notes.append(Note(title, text(row, "summary"), text(row, "advice"), "alarm"))
    for line in run.damaged:
        advice = "The checkpoint before it is used when the run resumes."
        notes.append(Note("Damaged.", line, advice if "checkpoint" in line else "", "alarm"))
    if faults:
        steps = ", ".join(f"{row['step']:,}" for row in faults[:5])
        what = f"{len(faults):,} step(s) were not finite: {steps}{', …' * (len(faults) > 5)}."
        notes.append(Note("Faults.", what, "The command replay runs such a step again.", "warning"))
    for name, row in latest.items():
        if row.get("decided") is False and row.get("found") is not True:
            title = f"{name.capitalize()}: cannot tell."
            notes.append(Note(title, text(row, "summary"), text(row, "advice"), "warning"))
    for note in _texts(values.get("dataset"), "notes"):
        notes.append(Note("Data.", note, level="warning"))
    fine = [
        name
        for name, row in latest.items()
        if row.get("found") is False and row.get("decided") is not False
    ]
    if fine:
        notes.append(Note("Not found:", f"{', '.join(fine)}.", level="good"))
    if not latest:
        program = text({"c": _program(folder)}, "c")
        how = f"{program} audit {folder.name}" if program else "the command audit"
        notes.append(
            Note("No audit yet.", "Nobody has looked for copies, collapse, bias or blur.", how)
        )
    return notes


def _program(folder: Path) -> str:
    """ "python -m experiments.vae_fashion", say, of the command that the run was started by."""
    words = text(next(iter(reversed(rows(folder / STARTS))), {}), "command").split()
    if len(words) > 2 and words[:2] == ["python", "-m"]:
        return " ".join(words[:3])
    return " ".join(words[:2]) if len(words) > 1 and words[1].endswith(".py") else ""


def _texts(values: Any, name: str) -> list[str]:
    found = values.get(name) if isinstance(values, dict) else None
    return [text({"t": t}, "t") for t in found[:10]] if isinstance(found, list) else []


def data_card(values: Any) -> Iterator[Facts | Bars]:
    """What the run was trained on.

    Args:
      values: the contents of config.json.

    Yields:
      Facts, and the counts of classes.
    """
    about, images = (values.get(name) for name in ("dataset", "images"))
    name = text(about, "name") or text(values, "config", "data", "name")
    shape = images.get("shape") if isinstance(images, dict) else None
    facts = [
        ("data set", name),
        ("images to train on", _count(images, "count")),
        ("size", "×".join(text({"s": s}, "s") for s in shape) if isinstance(shape, list) else ""),
        ("held out", text(about, "held_out")),
        ("classes", _count(images, "classes")),
        ("licence", LICENCES.get(name, "not recorded: see where the images come from")),
        ("fingerprint", text(images, "fingerprint")),
    ]
    yield Facts([(key, value) for key, value in facts if value], "Data")
    counts = about.get("classes") if isinstance(about, dict) else None
    if isinstance(counts, dict) and counts:
        bars = []
        for label, each in list(counts.items())[:MOST_CLASSES]:
            train, test = (_whole(each, i) for i in (0, 1))
            if train is not None:
                bars.append((label, train, f"{train:,}" + (f" + {test:,}" if test else "")))
        more = len(counts) - MOST_CLASSES
        hint = "Images to train on + held out." + (f" {more:,} more classes." if more > 0 else "")
        if bars:
            yield Bars("Images per class", bars, hint)


def _count(values: Any, name: str) -> str:
    value = values.get(name) if isinstance(values, dict) else None
    return f"{value:,}" if isinstance(value, int) and files.is_count(value) else ""


def _whole(values: Any, i: int) -> int | None:
    value = values[i] if isinstance(values, list) and len(values) > i else None
    return value if files.is_count(value) else None


def checkpoints(run: Listed) -> Table:
    """The checkpoints, and whether they are intact.

    Args:
      run: what its files record.

    Returns:
      The table.
    """
    rows, marked = [], set()
    for i, each in enumerate(reversed(run.checkpoints)):
        state = each.damage or ("intact" if each.checked else "not read: names and sizes fit")
        if each.damage:
            marked.add(i)
        score = "" if each.score is None else f"{each.score:.5g}"
        best = "best" if run.best and run.best[2] == each.step else ""
        rows.append([f"{each.step:,}", state, score, best])
    return Table(["step", "state", "score", ""], rows[:MOST_ROWS], marked=frozenset(marked))


def settings(values: Any, started: list[Any]) -> Iterator[Table | Note]:
    """The settings, those that differ from their defaults marked, and how they were changed.

    Args:
      values: the contents of config.json.
      started: rows of starts.jsonl.

    Yields:
      Tables, the complete one folded.
    """
    flat = dict(flattened(values.get("config")))
    known = started[-1].get("changed") if started else None
    defaults = known if isinstance(known, dict) else {}
    changed = [[k, v, plain(k, defaults[k])] for k, v in flat.items() if k in defaults]
    if changed:
        title = "Changed from the default"
        marked = frozenset(range(len(changed)))
        yield Table(["setting", "value", "default"], changed[:MOST_ROWS], title, marked)
    elif isinstance(known, dict):
        yield Note("Defaults.", "Every setting has its default value.")
    every = [[name, value] for name, value in flat.items()]
    more = "" if isinstance(known, dict) else "The defaults were not recorded when it was trained."
    title = f"All {len(every):,} settings"
    yield Table(["setting", "value"], every[:MOST_ROWS], title, more=more, folded=True)
    rows = [
        [f"{c['step']:,}", c["stage"], c["setting"], plain("", c["before"]), plain("", c["after"])]
        for c in history.changes(values)[:MOST_ROWS]
    ]
    if rows:
        head = ["from step", "stage", "setting", "before", "after"]
        yield Table(head, rows, "Changed on the way")


def flattened(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their flags.

    Args:
      values: nested dicts.
      path: of the section, with a dot behind.

    Yields:
      (flag, value as text).
    """
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict) and path.count(".") < 4:
            yield from flattened(value, f"{path}{name}.")
        else:
            yield flag(path + name), plain(flag(path + name), value)


def plain(name: str, value: Any) -> str:
    """A setting's value as text; of a path the last part, as pages are sent to others.

    Args:
      name: its flag.
      value: as JSON has it.

    Returns:
      The text.
    """
    if isinstance(value, str):
        shown = f"…/{Path(value).name}" if name in PATHS and "/" in value else value
        return text({"v": shown}, "v")
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    try:
        return text({"v": json.dumps(value).replace("null", "none")}, "v")
    except (ValueError, RecursionError):
        return "?"


def environment(started: list[Any], values: Any) -> Iterator[Table | Facts]:
    """With what the run was started each time.

    Args:
      started: rows of starts.jsonl.
      values: the contents of config.json.

    Yields:
      A table, or what config.json has where there is no row.
    """
    if not started:
        versions = [("genjax", text(values, "genjax")), ("jax", text(values, "jax", "version"))]
        facts = [(name, value) for name, value in versions if value]
        yield Facts([*facts, ("command, device, commit", "not recorded")])
        return
    last = started[-1]
    devices = _count(last, "devices")
    yield Facts(
        [
            ("command", text(last, "command") or "from Python"),
            ("device", text(last, "device") + (f" × {devices}" if devices else "")),
            ("commit", text(last, "commit") or "not under git"),
            *((name, text(last, "versions", name)) for name in ("genjax", "jax", "python")),
        ]
    )
    if len(started) > 1:
        yield Table(
            ["from step", "time", "device", "commit", "command"],
            [
                [
                    f"{row['step']:,}",
                    *(text(row, key) for key in ("time", "device", "commit", "command")),
                ]
                for row in started[-MOST_ROWS:]
            ],
            "Each start",
        )


def faults(found: list[Any]) -> Table:
    """The steps that were not finite.

    Args:
      found: rows of faults.jsonl.

    Returns:
      The table.
    """
    shown = [
        [f"{row['step']:,}", ", ".join(_texts(row, "not_finite")), text(row, "answer")]
        for row in found[:MOST_ROWS]
    ]
    return Table(["step", "not finite", "what was done"], shown)
