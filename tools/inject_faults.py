"""Kills, damages, starves and stops runs of every family, and compares what comes of them.

    python -m tools.inject_faults                     # 200 kills, 100 damages, …: hours
    python -m tools.inject_faults --kills 10 --damages 20 --families vae dcgan

After each fault the same command is started again, and the bits of its state and metrics are
compared with a run that nobody harmed. Prints a table; exits with 1 where a saved step or a
checkpoint was lost, or something changed without a report.
"""

import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from tests.families import FAMILIES
from tools import harms, shared_harms
from tools.harmed_runs import Row, Runs


@dataclass(frozen=True)
class Options:
    """How many faults of each kind."""

    kills: int = 200
    """Over all families."""
    early_kills: int = 28
    damages: int = 100
    all_damaged: int = 14
    read_errors: int = 14
    terminations: int = 14
    closed_terminals: int = 14
    pairs: int = 4
    """Of the first family, like disks and peers."""
    disks: int = 5
    peers: int = 6
    seed: int = 0
    families: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = tuple(FAMILIES)
    """Families of tests/families.py."""


EACH: dict[str, Callable[[Runs, int, random.Random], Row]] = {
    "kills": harms.kills,
    "early_kills": harms.early_kills,
    "damages": harms.damages,
    "all_damaged": harms.all_damaged,
    "read_errors": harms.read_errors,
    "terminations": harms.terminations,
    "closed_terminals": harms.closed_terminals,
}
FIRST: dict[str, Callable[[Runs, int, random.Random], Row]] = {
    "pairs": shared_harms.pairs,
    "disks": shared_harms.full_disks,
    "peers": shared_harms.lost_peers,
}


def harm(options: Options, work: Path, shown: bool = True, plant: str = "") -> list[Row]:
    rng = random.Random(options.seed)
    names = options.families
    share = lambda total, i: total // len(names) + (i < total % len(names))  # noqa: E731
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        bar.write(f"{'  '.join(map(str, row))}{'' if row.good else '  MISS'}", file=sys.stderr)

    total = sum(getattr(options, kind) for kind in (*EACH, *FIRST))
    with tqdm(total=total, unit="harm", disable=not shown) as bar:
        for i, name in enumerate(names):
            folder = work / name.replace(" ", "_")
            folder.mkdir()
            runs = Runs(name, folder, plant)
            runs.tick = bar.update
            bar.set_description(name)
            for kind, inject in EACH.items():
                if n := share(getattr(options, kind), i):
                    report(inject(runs, n, rng))
            for kind, inject in FIRST.items() if i == 0 else ():
                if n := getattr(options, kind):
                    report(inject(runs, n, rng))
    return rows


def table(rows: list[Row]) -> str:
    lines = [("harm", "family", "tried", "survived", "steps lost", "silent", "")]
    lines += [(r.harm, r.family, *map(str, r[2:6]), r.note) for r in rows]
    kinds = dict.fromkeys(r.harm for r in rows)
    for kind in kinds:
        of = [r for r in rows if r.harm == kind]
        lines.append((kind, "all", *(str(sum(r[i] for r in of)) for i in range(2, 6)), ""))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[6]]
        ).rstrip()
        for line in lines
    )


def main() -> None:
    options = tyro.cli(Options, prog="python -m tools.inject_faults", description=__doc__)
    if unknown := set(options.families) - FAMILIES.keys():
        sys.exit(f"error: no family {sorted(unknown)}; there are {', '.join(FAMILIES)}")
    with tempfile.TemporaryDirectory() as work:
        rows = harm(options, Path(work))
    print(table(rows))
    sys.exit(not all(row.good for row in rows))


if __name__ == "__main__":
    main()
