"""What `python -m genjax report` writes: a page of one run or several, or what a person judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genjax import files
from genjax.errors import ConfigError
from genjax.run import run_page


def report(
    folders: Sequence[str],
    *,
    judge: bool = False,
    curate: bool = False,
    judged: str | None = None,
    n: int | None = None,
    to: str | None = None,
) -> str:
    """Writes the page of a run, or one that compares several, or one on which a person judges.

    Args:
      folders: runs, or folders of runs.
      judge: whether to write a page of real and drawn images, to say which is which.
      curate: whether to write a page of drawn images, to accept or reject.
      judged: a file that such a page saved; what its answers say is returned.
      n: images to judge; None for 100.
      to: the file to write; None for one in the run's directory, of several runs report.html in the
        working directory.

    Returns:
      Lines to print: where the page is, or what the answers say.

    Raises:
      ConfigError: where a folder holds no run, or something is there that may not be replaced.
    """
    runs = run_page.runs_in(list(map(files.user_path, folders)))
    path = files.user_path(to) if to else None
    if judge or curate or judged:
        if len(runs) > 1:
            raise ConfigError("--judge, --curate and --judged take one run")
        # It opens data sets and, below, scores are ranked: imports that a run's page spares.
        from genjax.run import judging

        if judged:
            return judging.read(runs[0], files.user_path(judged), path)
        if path:
            raise ConfigError("--to is not for --judge and --curate: their key lies beside them")
        page, source = judging.write_page(runs[0], "tell" if judge else "curate", n)
        return f"{page}, with images of {source}: open it in a browser"
    if n is not None:
        raise ConfigError("--n is for --judge and --curate")
    if len(runs) == 1:
        return str(run_page.write(runs[0], path))
    from genjax.run import comparison_page

    return str(comparison_page.write(runs, path or Path.cwd() / run_page.NAME))
