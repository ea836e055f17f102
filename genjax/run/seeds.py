"""The same run with several seeds: each in a folder of its own, and how their scores spread."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax import files
from genjax.data.dataset import Dataset
from genjax.errors import ConfigError, GenjaxError
from genjax.report import grids
from genjax.run import lock
from genjax.run.config import load
from genjax.run.family import Family
from genjax.run.restored import RestoredRun
from genjax.run.settings import Settings
from genjax.run.training import arguments, train_in
from genjax.train import processes
from genjax.train.checkpoint import Checkpoints
from genjax.train.loop import NonFiniteError

logger = logging.getLogger(__name__)

COLUMNS = 8  # images of a seed in samples/seeds.png
_OURS = re.compile(r"seed_\d+|seeds\.json|evaluation\.json|samples|" + lock.NAME)


class SeedsError(GenjaxError):
    """Some seeds ended in a step that was not finite; the others are done."""

    exit_code = 1


@dataclass(frozen=True)
class Spread:
    """A score of several runs.

    Attributes:
      values: {seed: score}.
    """

    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """x̄ = Σ xᵢ / n."""
        return float(np.mean(list(self.values.values())))

    @property
    def deviation(self) -> float:
        """s with s² = Σ (xᵢ − x̄)²/(n − 1), NaN for n < 2."""
        found = list(self.values.values())
        return float(np.std(found, ddof=1)) if len(found) > 1 else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it.

        Returns:
          A dict of plain values.
        """
        values = {str(seed): value for seed, value in self.values.items()}
        return {"mean": self.mean, "deviation": self.deviation, "n": len(values), "values": values}


@dataclass(frozen=True)
class Seeds:
    """The runs of several seeds; printed, a table of their scores.

    Attributes:
      directory: that of all; a seed's run is in its folder seed_N.
      end: {score: at the last step}.
      best: {score: at the checkpoint of the best score}.
      done: the seeds that have ended.
      failed: {seed: why it has not ended}.
    """

    directory: Path
    end: Mapping[str, Spread]
    best: Mapping[str, Spread]
    done: tuple[int, ...]
    failed: Mapping[int, str]

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it.

        Returns:
          A dict of plain values.
        """
        parts = {"end": self.end, "best": self.best}
        failed = {str(seed): why for seed, why in self.failed.items()}
        scores = {part: as_dict(found) for part, found in parts.items()}
        return {"seeds": list(self.done), "failed": failed, "scores": scores}

    def __str__(self) -> str:
        return table({"at the end": self.end, "at the best checkpoint": self.best})


def as_dict(spreads: Mapping[str, Spread]) -> dict[str, Any]:
    """Scores of several runs as JSON takes them.

    Args:
      spreads: {score: of each run}.

    Returns:
      A dict of plain values.
    """
    return {name: spread.as_dict() for name, spread in spreads.items()}


def table(columns: Mapping[str, Mapping[str, Spread]]) -> str:
    """Scores of several runs, one per line.

    Args:
      columns: {heading: {score: of each run}}.

    Returns:
      Mean ± standard deviation of each.
    """
    names = dict.fromkeys(name for found in columns.values() for name in found)
    if not names:
        return "there are no scores"
    head = ("mean ± standard deviation", *columns)
    cells = [(name, *(_shown(found, name) for found in columns.values())) for name in names]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *cells))


def _shown(spreads: Mapping[str, Spread], name: str) -> str:
    if name not in spreads:
        return "-"
    each = spreads[name]
    return f"{each.mean:.5g} ± {each.deviation:.2g} (n = {len(each.values)})"


def finished(directory: Path) -> dict[int, Path]:
    """The seeds in a directory that have ended.

    Args:
      directory: of all of them.

    Returns:
      {seed: the directory of its run}; empty where it is none of several seeds.

    Raises:
      ConfigError: where seeds.json cannot be used.
    """
    path = directory / "seeds.json"
    try:
        seeds = files.read_json(path).get("seeds")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not isinstance(seeds, list) or not all(map(files.is_count, seeds)):
        raise ConfigError(f"{path} does not say which seeds there are")
    return {seed: directory / f"seed_{seed}" for seed in seeds}


def evaluate(
    each: Mapping[int, Path],
    path: Path,
    name: str,
    score: Callable[[str], Mapping[str, float]],
) -> str:
    """Scores every seed, and writes how their means spread.

    Args:
      each: {seed: the directory of its run}.
      path: of the JSON file to write.
      name: of the experiment.
      score: (directory of a run) -> {score: its value or mean}.

    Returns:
      A table of mean ± standard deviation.
    """
    means: dict[str, dict[int, float]] = {}
    for seed, place in each.items():
        _add(means, seed, dict(score(str(place))))
    spreads = _spreads(means)
    files.write_json(path, {"experiment": name, "scores": as_dict(spreads)})
    return table({"evaluate": spreads})


def train_seeds(family: Family, images: Dataset, settings: Settings, *, name: str = "") -> Seeds:
    """Trains a family with `settings.seeds` seeds, or goes on where that stopped.

    The seeds are `settings.seed` and those that follow. Each is a run like any other, in the folder
    seed_N of `settings.dir`; what is finished is not trained again. seeds.json gets the scores,
    samples/seeds.png a row of images per seed.

    Args:
      family: the family.
      images: to train on and to evaluate with.
      settings: how long, how large, where, with how many seeds.
      name: of the experiment; "" for the name of the directory.

    Returns:
      The scores; `run.open(directory / "seed_0", family)` opens a run.

    Raises:
      ConfigError: where settings, family and directory do not fit each other.
      WriteError: where a directory cannot be written to any more.
    """
    return train_seeds_in(*arguments(family, images, settings, name))


def train_seeds_in(
    directory: Path,
    name: str,
    config: Any,
    family: Family,
    images: Dataset,
    summary: dict[str, Any],
) -> Seeds:
    """Trains a family with several seeds in the folders of a directory, or goes on there.

    Args:
      directory: of all of them.
      name: of the experiment.
      config: its settings, a dataclass with the fields `run` and `data`.
      family: the family.
      images: to train on and to evaluate with.
      summary: what was understood of them, as `log_images` returns it.

    Returns:
      The scores.

    Raises:
      ConfigError: where settings, family and directory do not fit each other.
      WriteError: where a directory cannot be written to any more.
    """
    if config.run.seeds is None:
        raise ConfigError("say with how many seeds: --run.seeds, Settings(seeds=…)")
    main = processes.is_main_process()
    end: dict[str, dict[int, float]] = {}
    best: dict[str, dict[int, float]] = {}
    done: list[int] = []
    failed: dict[int, str] = {}
    drawn: dict[int, np.ndarray] = {}
    if main:
        _claim(directory)
    with lock.locked(directory) if main else nullcontext():
        for seed in range(config.run.seed, config.run.seed + config.run.seeds):
            logger.info("seed %d", seed)
            place = directory / f"seed_{seed}"
            settings = dataclasses.replace(config.run, seed=seed, seeds=None, dir=str(place))
            own = dataclasses.replace(config, run=settings)
            try:
                state = train_in(place, name, own, family, images, summary)
            except NonFiniteError as error:
                failed[seed] = str(error)
                logger.warning("seed %d failed: %s", seed, error)
                continue
            done.append(seed)
            if main:
                run = RestoredRun(place, family, load(place / "config.json"), state, images)
                rows = {row["step"]: row for row in run.metrics}
                _add(end, seed, _scores(rows.get(run.step, {})))
                _add(best, seed, _scores(rows.get(_best_step(place), {})))
                drawn[seed] = run.sample(COLUMNS)
        found = Seeds(directory, _spreads(end), _spreads(best), tuple(done), failed)
        if main:
            _write(found, name, drawn)
    for line in str(found).splitlines():
        logger.info("%s", line)
    return found


def raise_failed(found: Seeds) -> None:
    """Ends a command in which seeds failed.

    Args:
      found: the seeds.

    Raises:
      SeedsError: where there are such.
    """
    if found.failed:
        each = "; ".join(f"seed {seed}: {why}" for seed, why in found.failed.items())
        raise SeedsError(f"{each}. The others are done, see {found.directory / 'seeds.json'}")


def _claim(directory: Path) -> None:
    if (directory / "config.json").exists():
        raise ConfigError(f"{directory} is a run: give another --run.dir to --run.seeds")
    if directory.exists() and not all(_OURS.fullmatch(path.name) for path in directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no seeds: give another --run.dir")
    if reason := files.unwritable(directory):
        raise ConfigError(f"cannot write to {directory} ({reason}): give another --run.dir")


def _best_step(place: Path) -> int | None:
    checkpoints = Checkpoints(place / "checkpoints", read_only=True)
    try:
        return checkpoints.best()
    finally:
        checkpoints.close()


def _scores(row: dict[str, Any]) -> dict[str, float]:
    return {
        name.removeprefix("test/"): value
        for name, value in row.items()
        if name.startswith("test/") and isinstance(value, float)
    }


def _add(scores: dict[str, dict[int, float]], seed: int, found: dict[str, float]) -> None:
    for name, value in found.items():
        scores.setdefault(name, {})[seed] = value


def _spreads(scores: dict[str, dict[int, float]]) -> dict[str, Spread]:
    return {name: Spread(values) for name, values in scores.items()}


def _write(found: Seeds, name: str, drawn: dict[int, np.ndarray]) -> None:
    files.write_json(found.directory / "seeds.json", {"experiment": name, **found.as_dict()})
    if drawn:
        rows = grids.rows({f"seed {seed}": images for seed, images in drawn.items()})
        grids.save(found.directory / "samples" / "seeds.png", rows)
