"""`python -m genjax report`: the page of a run, a comparison of several, a person's judgement."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genjax import files
from genjax.cli.restart import open_streams
from genjax.errors import ConfigError, GenjaxError, one_line
from genjax.run import run_page


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
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--judge",
        action="store_true",
        help="write DIR/judge_N.html: real and drawn images in random order, to say which is which",
    )
    modes.add_argument(
        "--curate", action="store_true", help="the same with drawn images alone, to choose from"
    )
    modes.add_argument("--judged", metavar="FILE", help="what the answers in that file say")
    parser.add_argument("--n", type=int, help="images to judge; 100 by default")
    given = parser.parse_args(arguments)
    to = files.user_path(given.to) if given.to else None
    try:
        runs = run_page.runs_in([files.user_path(each) for each in given.dir])
        if given.judge or given.curate or given.judged:
            _judge(runs, given, to)
        elif len(runs) == 1:
            print(run_page.write(runs[0], to))
        else:
            from genjax.run import comparison_page  # ranks scores, which needs jax

            print(comparison_page.write(runs, to or Path.cwd() / run_page.NAME))
    except (GenjaxError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


def _judge(runs: list[Path], given: argparse.Namespace, to: Path | None) -> None:
    from genjax.run import judging  # images of data sets need what a page does without

    if len(runs) > 1:
        raise ConfigError("--judge, --curate and --judged take one run")
    if given.judged:
        print(judging.read(runs[0], files.user_path(given.judged), to))
    else:
        page, source = judging.write_page(runs[0], "tell" if given.judge else "curate", given.n)
        print(f"{page}, with images of {source}: open it in a browser")
