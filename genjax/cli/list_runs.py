"""The listing of runs: how far each is, whether its checkpoints are intact, its best score."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict

from genjax import files
from genjax.cli.restart import open_streams
from genjax.errors import printable
from genjax.run.listing import Listed, find, listed


def main(arguments: list[str] | None = None) -> None:
    """Prints the listing and exits: 1 where anything is damaged, 2 where a folder holds no run.

    Args:
      arguments: of the command line; None for those of the process.
    """
    open_streams()
    parser = argparse.ArgumentParser(
        "python -m genjax",
        description="List runs: steps, checkpoints and whether they are intact, best score. "
        "Nothing is changed. Exit code 1: something is damaged; 2: no run there.",
        epilog="Also, each with -h: python -m genjax score (any images), compare, report.",
    )
    parser.add_argument("dir", nargs="*", default=["runs"], help="runs, or folders of runs")
    parser.add_argument("--json", action="store_true", help="all of it, for programs")
    asked = parser.parse_args(arguments)
    empty = []
    found: list[Listed] = []
    for given in asked.dir:
        root = files.user_path(given)
        runs = [listed(path, parent, root) for path, parent in find(root)]
        found += runs
        if not runs:
            what = "holds no run" if root.is_dir() else "is no folder"
            empty.append(
                f"error: {printable(given)} {what}: give a run's directory, or one of runs"
            )
    if asked.json:
        print(files.json_text([asdict(run) for run in found], indent=2))
    elif found:
        print(table(found, shutil.get_terminal_size((200, 24)).columns))
    for line in empty:
        print(line, file=sys.stderr)
    sys.exit(2 if empty else int(any(run.damaged for run in found)))


def table(found: list[Listed], columns: int) -> str:
    """One line per run, with what is damaged below it.

    Where the lines are too long for the terminal, the best score moves below, too.

    Args:
      found: the runs.
      columns: width of the terminal, characters.

    Returns:
      The table.
    """
    head = ["run", "experiment", "step", "", "newest", "checkpoints", "best"]
    cells = [[printable(cell) for cell in _cells(run)] for run in found]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    wide = sum(widths) + 2 * (len(widths) - 1) <= columns
    lines = [_line(head if wide else head[:-1], widths)]
    for run, row in zip(found, cells, strict=True):
        lines.append(_line(row if wide else row[:-1], widths))
        if not wide and row[-1]:
            lines.append(f"  best {row[-1]}")
        lines += [f"  {printable(line)}" for line in run.damaged]
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def _cells(run: Listed) -> list[str]:
    step = "" if run.step is None else f"{run.step:,}"
    state = "export" if run.export else "finished" if run.finished else ""
    if run.asked and run.step is not None and not run.export:
        step += f" of {run.asked:,}"
        state = state or f"{min(run.step / run.asked, 1):.0%}"
    kept = " ".join(f"{c.step:,}{'!' if c.damage else ''}" for c in run.checkpoints)
    if kept:
        damaged = any(c.damage for c in run.checkpoints)
        read = all(c.checked for c in run.checkpoints)
        kept += " damaged" if damaged else " intact" if read else " too large to read"
    age = _age(min(c.age for c in run.checkpoints)) if run.checkpoints else ""
    best = "{} {:.5g} at {:,}".format(*run.best) if run.best else ""
    return [run.name, run.experiment, step, state, age, kept, best]


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
