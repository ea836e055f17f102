"""What a run does every so many steps: scores on held-out images, and sample images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.data.images import Images
from genjax.evaluate.average import average
from genjax.report import grids
from genjax.run.family import Family
from genjax.run.sampling import Sampler, labels
from genjax.run.settings import Settings
from genjax.train import processes
from genjax.train.layout import Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)

MOST_VALIDATED = 1000  # images of the test split scored each time


class PeriodicEval:
    """Scores the held-out images and draws the same latents, every so many steps.

    Args:
      family: the family.
      layout: how the state lies over the devices.
      held_out: the images to score.
      settings: the run's.
      key: of the scores' noise and of the latents, the same every time: what changes is the model.
      directory: where the images go.
    """

    def __init__(
        self,
        family: Family,
        layout: Layout,
        held_out: Images,
        settings: Settings,
        key: jax.Array,
        directory: Path,
    ):
        self.family, self.layout, self.directory = family, layout, directory
        self.sampler = Sampler(family)
        self.validate = family.compiled_validate
        self.key, self.samples = key, settings.samples
        self.label = labels(family, settings.samples)
        size = min(settings.batch, len(held_out), MOST_VALIDATED)
        self.batches = lambda: held_out.evaluation_batches(size, limit=MOST_VALIDATED)

    @cached_property
    def latents(self) -> Any:
        """The latents of the images that are drawn, computed once, at the first evaluation."""
        return self.family.latents(self.key, self.samples)

    def __call__(
        self, step: int, state: TrainState, metrics: MetricsWriter
    ) -> tuple[dict[str, float], float | None]:
        """Evaluates a state.

        Args:
          step: its step.
          state: laid out over the devices.
          metrics: where the images go besides the files.

        Returns:
          {"test/name": score}, and the score to rank the checkpoint by, if there is one.
        """
        state = self.layout.gather(state)
        if not processes.is_main_process():
            return {}, None  # the others wait for the main one at their next step
        numbers: dict[str, float] = {}
        if self.validate is not None:
            found = average(partial(self.validate, state), self.batches(), self.key)
            numbers = {f"test/{name}": score.mean for name, score in found.items()}
        self._draw(step, state, metrics)
        return numbers, next(iter(numbers.values()), None)

    def first_images(self, step: int, state: TrainState, metrics: MetricsWriter) -> None:
        """Draws images of a state without evaluating it, and logs where they are.

        Args:
          step: its step.
          state: laid out over the devices.
          metrics: where the images go besides the files.
        """
        state = self.layout.gather(state)
        if processes.is_main_process() and (path := self._draw(step, state, metrics)):
            logger.info("first images, of step %s: %s", f"{step:,}", path)

    def _draw(self, step: int, state: TrainState, metrics: MetricsWriter) -> Path | None:
        """Returns the file of the first image, None where the family makes none."""
        found = list(self._drawn(step, state))
        for name, file, image in found:
            grids.save(self.directory / file, image)
            metrics.image(step, name, image)
        return self.directory / found[0][1] if found else None

    def _drawn(self, step: int, state: TrainState) -> Iterator[tuple[str, str, np.ndarray]]:
        if self.family.generate is not None:
            images = self.sampler.images(state, self.key, self.latents, self.label)
            yield "samples", f"step_{step}.png", grids.grid(images)
        if self.sampler.reconstructs:
            originals = next(self.batches())["image"][:32]
            again = self.sampler.reconstructions(state, self.key, originals)
            yield "reconstructions", f"reconstructions_{step}.png", grids.pairs(originals, again)
