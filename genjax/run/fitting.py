"""Into how many slices a batch is cut so that a train step fits into a device's memory."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from genjax.data.dataset import Dataset
from genjax.errors import ConfigError
from genjax.run.checks import check_family, device_memory, layout_of
from genjax.run.config import recorded_section
from genjax.run.family import Build, Family, build_family
from genjax.run.settings import Settings
from genjax.run.trainer import Trainer
from genjax.train.layout import LayoutError

logger = logging.getLogger(__name__)

USABLE = 0.9  # of the memory: an allocator leaves gaps, and samples are drawn beside the state


def fitted(build: Build, config: Any, images: Dataset, directory: Path) -> Any:
    """Settings with as few microbatches as fit, where they ask for that.

    The step is compiled for 1, 2, 3 … slices of a device's share of the batch until what it takes,
    by the compiler's own account, fits. A run that is there keeps its number.

    Args:
      build: (config, spec) -> the family.
      config: the experiment's settings.
      images: to train on.
      directory: of the run.

    Returns:
      The settings, with a number.

    Raises:
      ConfigError: for several processes or stages, where one example at a time takes too much, or
        where the compiler does not tell what a step takes.
    """
    optimizer = getattr(config, "optimizer", None)
    if optimizer is None or optimizer.microbatches != "auto":
        return config
    if config.run.distributed:
        raise ConfigError(
            "--optimizer.microbatches auto: each of several processes might find another number; "
            "give one"
        )
    path = directory / "config.json"
    if path.exists() and not config.run.fresh:
        before = recorded_section(path, "optimizer")
        if isinstance(before, dict) and isinstance(n := before.get("microbatches"), int):
            return _with(config, n)
    memory, needed = device_memory(), 0.0
    for n in (n for n in range(1, config.run.batch + 1) if config.run.batch % n == 0):
        family, _ = build_family(build, one := _with(config, n), images.spec, "these settings")
        if family.before is not None:
            raise ConfigError(
                f"--optimizer.microbatches auto: {family.before.name} and what builds on it have "
                "one number; give it"
            )
        try:
            needed = _needed(family, one.run, images, directory)
        except LayoutError:
            if n == 1:
                raise
            continue  # a device's share does not divide so
        gigabytes = f"{needed / 1e9:.3g} GB of {memory / 1e9:.3g} GB" if memory else "any memory"
        if not memory or needed <= USABLE * memory:
            logger.info("a step takes %s on a device: --optimizer.microbatches %s", gigabytes, n)
            return one
        logger.info("by --optimizer.microbatches %s a step would take %s", n, gigabytes)
    raise ConfigError(
        f"--optimizer.microbatches auto: a step takes {needed / 1e9:,.3g} GB on a device that has "
        f"{(memory or 0) / 1e9:,.3g} GB, however it is cut: take a smaller network or image"
    )


def _with(config: Any, n: int) -> Any:
    return replace(config, optimizer=replace(config.optimizer, microbatches=n))


def _needed(family: Family, settings: Settings, images: Dataset, directory: Path) -> float:
    """Bytes on a device; infinite where the compiler gives up for want of memory."""
    with trial(family, settings, images, directory) as trainer:
        try:
            needed = trainer.memory()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return float("inf")
    if needed is None:
        raise ConfigError(
            "--optimizer.microbatches auto: this platform's compiler does not tell what a step "
            "takes; give a number"
        )
    return needed


@contextmanager
def trial(
    family: Family, settings: Settings, images: Dataset, directory: Path
) -> Iterator[Trainer]:
    """A trainer before the run, once its settings are checked; it leaves nothing behind.

    Args:
      family: that builds on no other.
      settings: the run's.
      images: to train on.
      directory: of the run.

    Yields:
      The trainer, in a folder of its own.
    """
    layout = layout_of(settings, family, directory)
    check_family(family, settings, images.train.batch(settings.seed, 0, 1), len(images.test))
    with tempfile.TemporaryDirectory() as folder:
        yield Trainer(family, None, Path(folder), settings, images.train, images.test, layout)
