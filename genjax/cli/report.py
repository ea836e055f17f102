"""`python -m genjax report`: the page of a run, a comparison of several, a person's judgement."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genjax import files
from genjax.cli.restart import open_streams
from genjax.errors import GenjaxError, one_line
from genjax.run import comparison_page, run_page


def main(arguments: list[str] | None = None) -> None:
    """Writes the page, prints where it is, and exits.

    Args:
      arguments: of the command line, after "report"; None for those of the process.
    """
    open_streams()
    parser = argparse.ArgumentParser(
        "python -m genjax report",
        description="Write DIR/report.html, the page of a run; of several runs report.html in the "
        "working directory, which compares them. The pages load nothing and send nothing.",
    )
    parser.add_argument("dir", nargs="+", help="a run, several, or folders of runs")
    parser.add_argument("--to", metavar="FILE", help="the file to write, in place of that")
    given = parser.parse_args(arguments)
    to = files.user_path(given.to) if given.to else None
    try:
        runs = comparison_page.runs_in([files.user_path(each) for each in given.dir])
        if len(runs) == 1:
            print(run_page.write(runs[0], to))
        else:
            print(comparison_page.write(runs, to or Path.cwd() / run_page.NAME))
    except (GenjaxError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
