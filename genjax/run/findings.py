"""findings.jsonl of a run: what audits and alarms decided, a row per step and finding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genjax import files
from genjax.evaluate.finding import Finding
from genjax.run.records import FINDINGS


def append(folder: Path, step: int, findings: Sequence[Finding]) -> None:
    """Adds rows {"step": …, **finding} to the findings of a folder.

    A row that is there already is not added again, so that a run that repeats its steps after a
    kill leaves the rows of one that was not killed.

    Args:
      folder: of the run.
      step: of the state that was looked at.
      findings: to add.

    Raises:
      OSError: where the file cannot be written, or is a link.
    """
    path, rows = folder / FINDINGS, [{"step": step, **each.as_dict()} for each in findings]
    known = {line.decode() for _, line in files.read_lines(path)[0]}
    if new := [row for row in rows if files.row_line(row) not in known]:
        files.append_rows(path, new)
