"""`python -m genjax report`: the page of a run, a comparison of several, a person's judgement."""

from __future__ import annotations

import argparse
import sys

from genjax.cli.restart import open_streams
from genjax.errors import GenjaxError, one_line
from genjax.run import reports


def main(arguments: list[str] | None = None) -> None:
    """Writes the page, prints where it is, and exits.

    Args:
      arguments: of the command line, after "report"; None for those of the process.
    """
    open_streams()
    about = "Write DIR/report.html, the page of a run; of several runs ./report.html, a comparison."
    parser = argparse.ArgumentParser("python -m genjax report", description=about)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="runs, or folders of runs")
    one = parser.add_mutually_exclusive_group()
    judge = "write DIR/judge_N.html: which images are real, which are drawn?"
    one.add_argument("--judge", action="store_true", help=judge)
    curate = "the same of drawn images alone, to accept or reject"
    one.add_argument("--curate", action="store_true", help=curate)
    one.add_argument("--judged", metavar="FILE", help="say what the answers in such a file mean")
    parser.add_argument("--n", type=int, help="images to judge; 100 by default")
    parser.add_argument("--to", metavar="FILE", help="the file to write, in place of that")
    try:
        print(reports.report(**vars(parser.parse_args(arguments))))
    except (GenjaxError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
