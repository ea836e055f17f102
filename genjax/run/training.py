"""Training a family on images in a run directory, from a script or a notebook."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax

from genjax.data.dataset import Dataset
from genjax.data.summary import describe, lines
from genjax.errors import ConfigError, GenjaxError
from genjax.report import grids
from genjax.run import minutes, score_rows
from genjax.run.checkpoint_score import CheckpointScorer
from genjax.run.checks import check_family, layout_of
from genjax.run.config import load
from genjax.run.directory import claimed, run_directory, with_recorded_keep
from genjax.run.family import Family, stages, state_shapes
from genjax.run.first_weights import FirstWeights, first_weights
from genjax.run.page_in_training import RunPage
from genjax.run.restored import RestoredRun
from genjax.run.scoring import RealImages
from genjax.run.settings import Config, Settings
from genjax.run.trainer import Trainer
from genjax.train import processes
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import Layout
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)
SHOWN = 64  # images in samples/data.png, and skipped files that are logged one by one


class WriteError(GenjaxError):
    """The run directory cannot be written to any more."""

    exit_code = 1
    at_once = True


def train(family: Family, images: Dataset, settings: Settings, *, name: str = "") -> RestoredRun:
    """Trains a family, or resumes where it stopped.

    The run directory holds config.json, metrics.jsonl, samples/, tensorboard/ and checkpoints/.
    Nothing is printed but a progress bar; the logger "genjax" reports what happens. The first
    Ctrl-C saves the current step and raises `train.loop.Stopped`.

    Args:
      family: the family.
      images: to train on and to evaluate with.
      settings: how long, how large, where.
      name: of the experiment; "" for the name of the run's directory.

    Returns:
      The trained run.

    Raises:
      ConfigError: where settings, family and directory do not fit each other.
      WriteError: where the run directory cannot be written to any more.
    """
    if settings.seeds is not None:
        raise ConfigError("with several seeds: run.train_seeds in place of run.train")
    what = arguments(family, images, settings, name)
    directory, state = what[0], train_in(*what)
    return RestoredRun(directory, family, load(directory / "config.json"), state, images)


def arguments(
    family: Family, images: Dataset, settings: Settings, name: str
) -> tuple[Path, str, Config, Family, Dataset, dict[str, Any]]:
    """What `train_in` takes, of a run that is started from Python.

    Args:
      family: the family.
      images: to train on and to evaluate with; what was understood of them is logged.
      settings: how long, how large, where.
      name: of the experiment; "" for the name of the directory.

    Returns:
      Its arguments, in order.

    Raises:
      ConfigError: where there is neither a directory nor a name, or other processes cannot be
        found.
    """
    if not (name or settings.dir):
        raise ConfigError("give the run a directory, Settings(dir=…), or a name")
    join_processes(settings)
    directory = run_directory(name, settings.dir)
    understood = log_images(images)
    settings = minutes.settled(settings, family, images, directory)
    config = Config(settings, images.settings)
    return directory, name or directory.name, config, family, images, understood


def join_processes(settings: Settings) -> None:
    """Joins the other processes of the run, where there are any, before jax does anything else.

    Args:
      settings: the run's.

    Raises:
      ConfigError: where they cannot be found.
    """
    given = (settings.coordinator, settings.processes, settings.process)
    if settings.distributed and jax.distributed.is_initialized():
        return
    if settings.distributed:
        try:
            processes.join(*given)
        except processes.ProcessError as error:
            raise ConfigError(
                f"{error}; where jax finds no cluster, give --run.coordinator HOST:PORT, "
                "--run.processes and --run.process"
            ) from error
    elif given != (None, None, None):
        raise ConfigError("--run.coordinator, processes and process need --run.distributed")


def log_images(images: Dataset) -> dict[str, Any]:
    """Logs what was understood of a data set; a mistake is cheap to see before training.

    Args:
      images: the data set.

    Returns:
      What was understood, as `data.describe` returns it.
    """
    summary = describe(images)
    skipped = dict.fromkeys((*images.train.skipped, *images.test.skipped))
    for file in list(skipped)[:SHOWN]:
        logger.warning("skipped: %s", file)
    if len(skipped) > SHOWN:
        logger.warning("skipped: %s more files", f"{len(skipped) - SHOWN:,}")
    for line in lines(summary):
        logger.info("%s", line)
    for note in summary["notes"]:
        logger.warning("note: %s", note)
    return summary


def train_in(
    directory: Path,
    name: str,
    config: Any,
    family: Family,
    images: Dataset,
    summary: dict[str, Any],
) -> TrainState:
    """Trains a family in a directory, or resumes there.

    Args:
      directory: the run's.
      name: of the experiment.
      config: its settings, a dataclass with the fields `run` and `data`.
      family: the family.
      images: to train on and to evaluate with.
      summary: what was understood of them, as `log_images` returns it.

    Returns:
      The final state, on one device.

    Raises:
      ConfigError: where settings, family and directory do not fit each other.
      WriteError: where the run directory cannot be written to any more.
    """
    try:
        with processes.readable_collective_errors():
            return _train_in(directory, name, config, family, images, summary)
    except OSError as error:
        raise WriteError(
            f"cannot write to {directory}: {error.strerror or error}; what was saved before stays"
        ) from error


def _train_in(
    directory: Path,
    name: str,
    config: Any,
    family: Family,
    images: Dataset,
    summary: dict[str, Any],
) -> TrainState:
    if processes.is_main_process():  # which alone reads, saves and deletes
        config = with_recorded_keep(config, directory)
    settings: Settings = config.run
    layout = layout_of(settings, family, directory)
    check_family(family, settings, images.train.batch(settings.seed, 0, 1), len(images.test))
    _log_few(family, len(images.train))
    scorer = None if settings.score is None else _scorer(family, directory, settings, images)
    fingerprint = images.train.fingerprint
    main = processes.is_main_process()
    first = first_weights(family, directory, settings) if main else None
    resume_at = partial(_resume_at, family, directory, settings.steps)
    record = first.record if first else None
    with (
        claimed(directory, name, config, images.spec, fingerprint, summary, resume_at, record)
        if main
        else nullcontext()
    ):
        if main:
            shown = images.train.batch(settings.seed, 0, min(SHOWN, len(images.train)))["image"]
            grids.save(directory / "samples" / "data.png", grids.grid(shown))
        if processes.is_multi_process():
            processes.agree("their settings", repr(_shared_settings(config)))
            processes.agree("their images", fingerprint)
        page = RunPage(directory, config) if main else None
        return _train_each(family, directory, settings, images, layout, first, page, scorer)


def _log_few(family: Family, count: int) -> None:
    if family.few is not None and count < family.few:
        logger.warning(
            "note: %s images are few for such a model (under %s): it may overfit to them or copy "
            "them. After training, `audit` looks for copies",
            f"{count:,}",
            f"{family.few:,}",
        )


def _scorer(
    family: Family, directory: Path, settings: Settings, images: Dataset
) -> CheckpointScorer:
    assert settings.score is not None
    real = RealImages(images.test, images.train, settings.seed)
    path = directory / score_rows.NAME
    return CheckpointScorer(settings.score, family, real, settings.score_images, path)


def _resume_at(family: Family, directory: Path, steps: int) -> tuple[str, int]:
    """Stage and step where a run resumes, once the arrays of each checkpoint are seen to fit."""
    name, step, ended = "", 0, True
    for stage, place in stages(family, directory):
        checkpoints = Checkpoints(place / "checkpoints", read_only=True)
        try:
            found = checkpoints.newest_step(state_shapes(stage))
        finally:
            checkpoints.close()
        if ended:
            name, step = stage.name, found
            ended = found >= (steps if stage.steps is None else stage.steps)
    return name, step


def _shared_settings(config: Any) -> Any:
    """The settings without those that each host may have its own of."""
    return dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, process=None, dir=None, keep=None),
        data=dataclasses.replace(config.data, dir=None),
    )


def _train_each(
    family: Family,
    directory: Path,
    settings: Settings,
    images: Dataset,
    layout: Layout,
    first: FirstWeights | None,
    page: RunPage | None,
    scorer: CheckpointScorer | None = None,
) -> TrainState:
    """Trains a family after the one it builds upon, each in its own directory."""
    before = None
    if family.before:
        name = family.before.name
        place = directory / name
        before = _train_each(family.before, place, settings, images, layout, first, page)
        logger.info("%s: done; its weights stay frozen from here on", name)
    train = images.train
    logger.info(
        "%s: %s images %s of %s, %d %s device(s)",
        directory.name,
        f"{len(train):,}",
        train.shape[1:],
        train.name,
        layout.devices_in_all,
        jax.devices()[0].device_kind,
    )
    held_out = images.test
    return Trainer(
        family, before, directory, settings, train, held_out, layout, first, page, scorer
    ).train()
