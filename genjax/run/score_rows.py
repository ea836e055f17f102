"""scores.jsonl of a run: one row per evaluation and score, and what two runs' rows say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import ConfigError
from genjax.evaluate.score import Comparison, ComparisonError, Score, compare
from genjax.run.evaluation import Evaluation
from genjax.run.records import SCORES

NAME, EVALUATION = SCORES, "evaluation.json"


def append(path: Path, step: int, scores: Sequence[Score]) -> None:
    """Adds rows {"step": …, **score} to a file of scores.

    Nothing is replaced: of several rows of the same step and score the last counts, so that a run
    that repeats its steps after a crash needs no rows removed.

    Args:
      path: the file; made where there is none.
      step: of the state that was scored; 0 for images of unknown origin.
      scores: to add.
    """
    files.append_rows(path, ({"step": step, **score.as_dict()} for score in scores))


def save(folder: Path, of: dict[str, Any], scores: Sequence[Score]) -> dict[str, float]:
    """Adds scores to scores.jsonl and to evaluation.json of a folder.

    Args:
      folder: the folder.
      of: {"step", …}, what was scored; evaluation.json of another step is replaced.
      scores: to add.

    Returns:
      {name: value}.
    """
    append(folder / NAME, of["step"], scores)
    rows = [score.as_dict() for score in scores]
    before = _evaluation(folder, of["step"])
    old = before.get("distances")
    names = {score.name for score in scores}
    kept = [
        row
        for row in (old if isinstance(old, list) else [])
        if isinstance(row, dict) and row.get("name") not in names
    ]
    files.write_json(folder / EVALUATION, {**before, **of, "distances": [*kept, *rows]})
    return {score.name: score.value for score in scores}


def save_evaluation(folder: Path, of: dict[str, Any], evaluation: Evaluation) -> dict[str, float]:
    """Writes evaluation.json; distances of the same step stay in it.

    Args:
      folder: the folder.
      of: {"step", …}, what was scored.
      evaluation: the scores.

    Returns:
      {name: mean}.
    """
    before = _evaluation(folder, of["step"])
    kept = {"distances": before["distances"]} if "distances" in before else {}
    files.write_json(folder / EVALUATION, {**of, **evaluation.as_dict(), **kept})
    return {name: average.mean for name, average in evaluation.scores.items()}


def _evaluation(folder: Path, step: int) -> dict[str, Any]:
    try:
        found = files.read_json(folder / EVALUATION)
    except (OSError, ValueError):
        return {}
    return found if found.get("step") == step else {}


def read(path: Path) -> dict[tuple[int, str], Score]:
    """The scores in a file, which may be a stranger's; rows that are none are skipped.

    Args:
      path: the file; none counts as one without rows.

    Returns:
      {(step, name): the last score of both}, in the order of the file.
    """
    found: dict[tuple[int, str], Score] = {}
    for row in files.read_rows(path):
        try:
            score = Score.from_dict(row)
        except ValueError:
            continue
        found.pop((row["step"], score.name), None)
        found[row["step"], score.name] = score
    return found


def newest(given: str) -> dict[str, Score]:
    """The last score of each name.

    Args:
      given: a run's directory, or a file of scores.

    Returns:
      {name: score}.

    Raises:
      ConfigError: where there are none.
    """
    place = files.user_path(given)
    path = place / NAME if place.is_dir() else place
    found = {name: score for (_, name), score in read(path).items()}
    if not found:
        raise ConfigError(
            f"{path} holds no score: make some by `evaluate RUN --scores kd_vgg16` or `python -m "
            "genjax score IMAGES --against SET --to FILE`"
        )
    return found


def comparisons(first: str, second: str) -> list[Comparison | ComparisonError]:
    """What the last scores of two runs say, by the names that both have.

    Args:
      first: a run's directory, or a file of scores.
      second: the other.

    Returns:
      A comparison per name, or why there is none.

    Raises:
      ConfigError: where one has no scores, or they share no name.
    """
    ours, theirs = newest(first), newest(second)
    names = [name for name in ours if name in theirs]
    if not names:
        raise ConfigError(
            f"{first} has {', '.join(ours)}, and {second} has {', '.join(theirs)}: no score is of "
            "both"
        )
    found: list[Comparison | ComparisonError] = []
    for name in names:
        try:
            found.append(compare(ours[name], theirs[name]))
        except ComparisonError as error:
            found.append(error)
    return found
