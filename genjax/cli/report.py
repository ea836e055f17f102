"""`python -m genjax report`: writes the page of a run, or one that compares several."""

from __future__ import annotations

import argparse
import sys

from genjax import files
from genjax.cli.restart import open_streams
from genjax.errors import GenjaxError, one_line
from genjax.run import run_page


def main(arguments: list[str] | None = None) -> None:
    """Writes the page, prints where it is, and exits.

    Args:
      arguments: of the command line, after "report"; None for those of the process.
    """
    open_streams()
    parser = argparse.ArgumentParser("python -m genjax report", description=__doc__)
    parser.add_argument("dir", nargs="+", help="runs, or folders of runs")
    parser.add_argument("--to", help="the file to write")
    given = parser.parse_args(arguments)
    to = files.user_path(given.to) if given.to else None
    try:
        print(run_page.write(files.user_path(given.dir[0]), to))
    except GenjaxError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
