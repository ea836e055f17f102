"""What the files of runs record: how far each is, whether its checkpoints are intact, its best."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genjax import files
from genjax.errors import ConfigError
from genjax.run.config import load
from genjax.run.model_card import is_number
from genjax.train import digests

DEPTH = 4  # levels of folders to search
MOST_READ = 32 << 30  # bytes of a checkpoint: half a minute
FRESH = 600  # seconds for which a checkpoint without digests may still be under way


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run.

    Attributes:
      step: its number.
      age: seconds since it was written.
      score: lower is better; None where it has none.
      damage: what is wrong, or None.
      checked: whether its bytes were read; of very large ones the names and sizes are compared.
    """

    step: int
    age: float
    score: float | None
    damage: str | None
    checked: bool = True


@dataclass(frozen=True)
class Listed:
    """A run, or a stage of one.

    Attributes:
      name: its path below the folder that was listed.
      experiment: the name of its experiment.
      step: the last step in its metrics or checkpoints.
      asked: the step at which it shall end, if known.
      export: whether it is an export.
      checkpoints: in order of their steps.
      best: name, value and step of the best score among the checkpoints on disk.
      trouble: why the rest is missing, or what is wrong besides the checkpoints.
    """

    name: str
    experiment: str = ""
    step: int | None = None
    asked: int | None = None
    export: bool = False
    checkpoints: tuple[Checkpoint, ...] = ()
    best: tuple[str, float, int] | None = None
    trouble: str | None = None

    @property
    def finished(self) -> bool:
        """Whether there is an intact checkpoint of the step at which the run shall end."""
        kept = [c.step for c in self.checkpoints if not c.damage]
        return self.asked is not None and bool(kept) and kept[-1] >= self.asked

    @property
    def damaged(self) -> list[str]:
        """What is wrong with the run and its checkpoints, one line each."""
        bad = [f"checkpoint {c.step:,}: {c.damage}" for c in self.checkpoints if c.damage]
        return [*([self.trouble] if self.trouble else []), *bad]


def find(folder: Path, depth: int = DEPTH) -> Iterator[tuple[Path, Path | None]]:
    """Finds runs and exports by their config.json.

    Args:
      folder: where to look.
      depth: levels of folders below it to search.

    Yields:
      (folder, None) of each run, and after it (folder, the run's folder) of each of its stages.
    """
    run = (folder / "config.json").is_file()
    if run:
        yield folder, None
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError:
        return
    for path in below:
        if run and (path / "config.json").is_file():  # an earlier run, kept by a fresh one
            yield from find(path, 0)
        elif run and (path / "checkpoints").is_dir():
            yield path, folder
        elif not run and depth and not path.is_symlink():
            yield from find(path, depth - 1)


def listed(folder: Path, parent: Path | None, root: Path, most_read: int = MOST_READ) -> Listed:
    """Reads what the files of a run, or of a stage of one, record.

    Args:
      folder: of the run or stage.
      parent: the run's folder, for a stage; None for a run.
      root: the folder that was listed.
      most_read: bytes of a checkpoint to read; of larger ones the names and sizes are compared.

    Returns:
      The run; its `trouble` says so where config.json cannot be used.
    """
    name = folder.absolute().name if folder == root else str(folder.relative_to(root))
    try:
        values = load((parent or folder) / "config.json")
    except ConfigError as error:
        return Listed(name, trouble=str(error))
    config = values.get("config")
    if not isinstance(values.get("experiment"), str) or not isinstance(config, dict):
        return Listed(name, trouble="config.json is not of a run")
    run = config.get("run")
    # A stage has its steps in a setting of its own name.
    name_of_steps, settings = (f"{folder.name}_steps", config) if parent else ("steps", run)
    asked = settings.get(name_of_steps) if isinstance(settings, dict) else None
    export = values.get("export")
    metrics: dict[int, dict[str, float]] = {}
    last = export.get("step") if isinstance(export, dict) else None
    last = last if files.is_count(last) else None
    try:
        rows, lines = files.read_lines(folder / "metrics.jsonl")
        checkpoints = tuple(_checkpoints(folder / "checkpoints", most_read))
    except OSError as error:
        return Listed(name, trouble=f"it cannot be read at the moment: {error.strerror}")
    for row, _ in rows:
        last = max(last or 0, row["step"])
        numbers = {key: value for key, value in row.items() if is_number(value)}
        metrics[row["step"]] = {**metrics.get(row["step"], {}), **numbers}
    if checkpoints:
        last = max(last or 0, checkpoints[-1].step)
    return Listed(
        name,
        values["experiment"],
        last,
        asked if files.is_count(asked) else None,
        export is not None,
        checkpoints,
        _best(checkpoints, metrics),
        f"metrics.jsonl: {lines:,} damaged line(s)" if lines else None,
    )


def _checkpoints(folder: Path, most_read: int) -> Iterator[Checkpoint]:
    for step in digests.steps(folder):
        path = folder / str(step)
        try:
            damage = digests.damage(path, most_read)
            score = digests.score(path)
            large = sum(file.stat().st_size for file in path.rglob("*")) > most_read
        except OSError as error:
            damage = f"it cannot be read at the moment: {error.strerror}"
            score, large = None, False
        try:
            complete = (path / digests.NAME).exists()
            written = (path / digests.NAME if complete else path).lstat().st_mtime
        except OSError:  # the run has deleted it meanwhile
            continue
        age = max(0.0, time.time() - written)
        if complete or age > FRESH:  # else an earlier version is writing or deleting it
            yield Checkpoint(step, age, score, damage, checked=not large)


def _best(
    checkpoints: tuple[Checkpoint, ...], metrics: dict[int, dict[str, float]]
) -> tuple[str, float, int] | None:
    scored = [(c.score, c.step) for c in checkpoints if c.score is not None]
    if not scored:
        return None
    score, step = min(scored)
    # The checkpoint keeps the number without its name.
    scores = {k: v for k, v in metrics.get(step, {}).items() if k.startswith("test/")}
    names = [name for name, value in scores.items() if value == score]
    return (names[0].removeprefix("test/") if names else "score"), score, step
