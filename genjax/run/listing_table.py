"""The listing of runs as text: how far each is, whether it is intact, its best score."""

from __future__ import annotations

from genjax.errors import printable
from genjax.run.listing import Listed


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
