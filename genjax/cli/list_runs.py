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
from genjax.run.listing_table import table


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
