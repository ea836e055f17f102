"""Training for some minutes: the speed of the first steps decides how many there are."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from genjax.data.dataset import Dataset
from genjax.errors import ConfigError
from genjax.run import fitting
from genjax.run.config import parse, recorded_section
from genjax.run.family import Build, Family, build_family
from genjax.run.settings import Settings

logger = logging.getLogger(__name__)

TIMED = 6.0  # seconds of train steps that are timed
MOST = 1_000_000_000  # steps that are never reached while they are


def settled(
    settings: Settings,
    family: Family,
    images: Dataset,
    directory: Path,
    usual_every: int | None = None,
) -> Settings:
    """Settings with the number of steps that fill the minutes.

    A run that is there keeps its steps, whatever the machine: with other minutes they are in
    proportion.

    Args:
      settings: the run's; without minutes they are returned as they are.
      family: trained as it is to see how fast that is. Schedules that end with the run are to be
        built again for the steps that are returned.
      images: to train on.
      directory: of the run.
      usual_every: steps between periodic evaluations that nobody chose. Where the settings have
        these, there will be as many evaluations as in `settings.steps` steps.

    Returns:
      The settings with `steps` and `every`.

    Raises:
      ConfigError: for several processes or stages, or a run that was started without minutes.
    """
    if settings.minutes is None:
        return settings
    if settings.distributed:
        raise ConfigError(
            "--run.minutes: each of several processes would time another speed; give --run.steps"
        )
    if family.before is not None:
        raise ConfigError(
            f"--run.minutes: {family.before.name} and what builds on it have steps each; give those"
        )
    path, usual = directory / "config.json", settings.every == usual_every
    if path.exists() and not settings.fresh:
        before = parse(Settings, recorded_section(path, "run"), str(path))
        if before.minutes is None:
            raise ConfigError(
                f"{directory} is a run of {before.steps:,} steps, not of minutes: --run.steps "
                "takes it further"
            )
        steps = max(1, round(before.steps * settings.minutes / before.minutes))
        return replace(settings, steps=steps, every=before.every if usual else settings.every)
    with fitting.trial(family, replace(settings, steps=MOST), images, directory) as trainer:
        rate = trainer.steps_per_second(TIMED)
    steps = max(1, round(60 * settings.minutes * rate))
    every = settings.every
    if usual and every is not None and settings.steps:
        every = -(-every * steps // settings.steps)
    logger.info(
        "%s steps in %g minutes, at the %.3g steps/s that were timed; evaluated every %s",
        f"{steps:,}",
        settings.minutes,
        rate,
        "epoch" if every is None else f"{every:,}",
    )
    return replace(settings, steps=steps, every=every)


def built(
    build: Build, config: Any, images: Dataset, directory: Path, usual_every: int | None
) -> tuple[Any, Family]:
    """An experiment's family, of the microbatches that fit and the steps that fill its minutes.

    Args:
      build: (config, spec) -> the family.
      config: the experiment's settings.
      images: to train on.
      directory: of the run.
      usual_every: as for `settled`.

    Returns:
      The settings, with the numbers that were found, and the family.

    Raises:
      ConfigError: as `settled` and `fitting.fitted` do, or where there is no such family.
    """
    what = "these settings describe"
    config = fitting.fitted(build, config, images, directory)
    family, _ = build_family(build, config, images.spec, what)
    if config.run.minutes is None:
        return config, family
    run = settled(config.run, family, images, directory, usual_every)
    config = replace(config, run=run)
    return config, build_family(build, config, images.spec, what)[0]
