"""`python -m genjax score`, `audit` and `compare`: any images, and two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from genjax.cli import startup
from genjax.cli.main import guarded
from genjax.cli.options import Auditing, Scoring
from genjax.cli.parsing import parse
from genjax.data.settings import DataSettings
from genjax.limits import Natural


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


@dataclass(frozen=True, kw_only=True)
class Audit(Auditing):
    """Look for copies, collapse, bias, blur and artefacts in images of any origin.

    They are compared with the training and the held-out images of the data that their model was
    trained on. The findings are printed; --to keeps them with sheets of what was found.
    """

    images: Annotated[str, tyro.conf.Positional]
    """The images to audit: a folder, or a file .zip, .npz or .npy."""
    against: str
    """The data of their model: a folder or such a file, or the name of a data set in --data.dir."""
    n: Natural | None = None
    """Number of images, chosen at random by the seed. 0: all. None: at most 1,000."""
    to: str | None = None
    """A folder for findings.jsonl and the sheets audit_*.png."""
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
      command: "score", "audit" or "compare".
      words: of the command line after it.
    """
    guarded(lambda: _run(command, words))


def _run(command: str, words: list[str]) -> None:
    kind: type = {"score": Score, "audit": Audit, "compare": Compare}[command]
    given = vars(parse(kind, words, prog=f"python -m genjax {command}"))
    startup.configure()
    with startup.printed_log():
        for line in _lines(command, given):
            print(line)


def _lines(command: str, given: Mapping[str, Any]) -> Iterable[Any]:
    # What the help of the commands need not wait for.
    if command == "audit":
        from genjax.run.audited import audit_images

        return audit_images(**given)
    from genjax.run.image_scores import score_images
    from genjax.run.score_rows import comparisons

    return score_images(**given) if command == "score" else comparisons(**given)
