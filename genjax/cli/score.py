"""`python -m genjax score` and `compare`: scores of any images, and of two runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from genjax.cli import startup
from genjax.cli.main import guarded
from genjax.cli.options import Scoring
from genjax.cli.parsing import parse
from genjax.data.settings import DataSettings


@dataclass(frozen=True, kw_only=True)
class Score(Scoring):
    """Score images of any origin against real ones, by a network's features.

    Each score has its interval and the floor: the same score of as many further real images.
    Without --scores those are kd_vgg16, fd_vgg16 and coverage_vgg16.
    """

    images: Annotated[str, tyro.conf.Positional]
    """The images to score: a folder, or a file .zip, .npz or .npy."""
    against: str
    """The real images: a folder or such a file, or the name of a data set in --data.dir."""
    to: str | None = None
    """A file to add the scores to, one JSON object per line, for `python -m genjax compare`."""
    data: DataSettings = DataSettings()
    """How both are read; --against says which."""


@dataclass(frozen=True)
class Compare:
    """Say which of two runs is better by the last of each score, or that the data do not tell."""

    first: Annotated[str, tyro.conf.Positional]
    """A run, or a file of scores."""
    second: Annotated[str, tyro.conf.Positional]
    """Another."""


def main(command: str, words: list[str]) -> None:
    """Runs one of the commands, and exits where it fails.

    Args:
      command: "score" or "compare".
      words: of the command line after it.
    """
    guarded(lambda: _run(command, words))


def _run(command: str, words: list[str]) -> None:
    kind: type = Score if command == "score" else Compare
    given = vars(parse(kind, words, prog=f"python -m genjax {command}"))
    startup.configure()
    from genjax.run.image_scores import score_images  # what help need not wait for
    from genjax.run.score_rows import comparisons

    with startup.printed_log():
        print(*(score_images if command == "score" else comparisons)(**given), sep="\n")
