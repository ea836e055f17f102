"""Kills, damages, starves and stops runs of every family, and counts what was lost.

    python -m tools.inject_faults                     # 200 kills, 100 damages, …: an hour or two
    python -m tools.inject_faults --kills 10 --damages 20 --families vae dcgan

Prints a table; exits with 1 where a step beyond the last save was lost or damage not detected.
"""

import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from tests.families import FAMILIES
from tools.harms import Row, Runs, damages, full_disks, kills, lost_peers, sizes, terminations


@dataclass(frozen=True)
class Options:
    """How many faults of each kind."""

    kills: int = 200
    """Over all families."""
    damages: int = 100
    terminations: int = 14
    disks: int = 5
    peers: int = 6
    seed: int = 0
    families: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = tuple(FAMILIES)
    """Families of tests/families.py."""


def harm(options: Options, work: Path, shown: bool = True) -> list[Row]:
    rng = random.Random(options.seed)
    names = options.families
    share = lambda total, i: total // len(names) + (i < total % len(names))  # noqa: E731
    total = options.kills + options.damages + options.terminations + options.disks + options.peers
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        bar.write(f"{'  '.join(map(str, row))}{'' if row.good else '  MISS'}", file=sys.stderr)

    with tqdm(total=total, unit="harm", disable=not shown) as bar:
        for i, name in enumerate(names):
            folder = work / name.replace(" ", "_")
            folder.mkdir()
            runs = Runs(name, folder)
            runs.tick = bar.update
            bar.set_description(name)
            if n := share(options.kills, i):
                report(kills(runs, n, rng))
            if n := share(options.damages, i):
                report(damages(runs, n, rng))
            if n := share(options.terminations, i):
                report(terminations(runs, n, rng))
            if i == 0 and options.disks:
                report(full_disks(runs, sizes(runs, options.disks)))
            if i == 0 and options.peers:
                report(lost_peers(runs, options.peers, rng))
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
    options = tyro.cli(Options, description=__doc__)
    if unknown := set(options.families) - FAMILIES.keys():
        sys.exit(f"error: no family {sorted(unknown)}; there are {', '.join(FAMILIES)}")
    with tempfile.TemporaryDirectory() as work:
        rows = harm(options, Path(work))
    print(table(rows))
    sys.exit(not all(row.good for row in rows))


if __name__ == "__main__":
    main()
