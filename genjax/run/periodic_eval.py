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
from genjax.keys import per_example
from genjax.report import grids
from genjax.run import inside
from genjax.run.checkpoint_score import CheckpointScorer
from genjax.run.collapse_alarm import CollapseAlarm
from genjax.run.family import Family
from genjax.run.sampling import Sampler, labels
from genjax.run.settings import Settings
from genjax.train import processes
from genjax.train.layout import Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)

MOST_VALIDATED = 1000  # images of the test split scored each time
RECONSTRUCTED = 32


class PeriodicEval:
    """Scores the held-out images and draws the same latents, every so many steps.

    Args:
      family: the family.
      layout: how the state lies over the devices.
      held_out: the images to score.
      settings: the run's.
      key: of the scores' noise and of the latents, the same every time: what changes is the model.
      directory: where the images go.
      scorer: of samples, whose score ranks the checkpoints; None for the family's own score.
      epoch: steps per epoch.
    """

    def __init__(
        self,
        family: Family,
        layout: Layout,
        held_out: Images,
        settings: Settings,
        key: jax.Array,
        directory: Path,
        scorer: CheckpointScorer | None = None,
        epoch: int = 1,
    ):
        self.family, self.layout, self.directory = family, layout, directory
        self.sampler, self.scorer = Sampler(family), scorer
        self.validate = family.compiled_validate
        self.key, self.samples = key, settings.samples
        self.label = labels(family, settings.samples)
        size = min(settings.batch, len(held_out), MOST_VALIDATED)
        self.batches = lambda: held_out.evaluation_batches(size, limit=MOST_VALIDATED)
        self.alarm = CollapseAlarm(self.batches, directory.parent, epoch, self.label is not None)

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
          {"test/name": score, "alarm/name": number}, and the score to rank the checkpoint by, if
          there is one.
        """
        state = self.layout.gather(state)
        if not processes.is_main_process():
            return {}, None  # the others wait for the main one at their next step
        numbers: dict[str, float] = {}
        if self.validate is not None:
            found = average(partial(self.validate, state), self.batches(), self.key)
            numbers = {f"test/{name}": score.mean for name, score in found.items()}
        alarms: dict[str, float] = {}
        if self.family.generate is not None:
            _, images = self._draw(step, state, metrics)
            alarms = self.alarm(step, images)
        self._look_inside(step, state)
        if self.scorer is None:
            return {**numbers, **alarms}, next(iter(numbers.values()), None)
        score = self.scorer(step, self.sampler, state, self.key)
        return {**numbers, f"test/{self.scorer.name}": score.value, **alarms}, score.value

    def first_images(self, step: int, state: TrainState, metrics: MetricsWriter) -> None:
        """Draws images of a state without evaluating it, and logs where they are.

        Args:
          step: its step.
          state: laid out over the devices.
          metrics: where the images go besides the files.
        """
        state = self.layout.gather(state)
        if processes.is_main_process() and self.family.generate is not None:
            path, _ = self._draw(step, state, metrics)
            logger.info("first images, of step %s: %s", f"{step:,}", path)

    def _draw(
        self, step: int, state: TrainState, metrics: MetricsWriter
    ) -> tuple[Path, np.ndarray]:
        """Returns the file of the first image, and the samples in it."""
        images = self.sampler.images(state, self.key, self.latents, self.label)
        found = list(self._drawn(step, state, images))
        for name, file, image in found:
            grids.save(self.directory / file, image)
            metrics.image(step, name, image)
        return self.directory / found[0][1], images

    def _drawn(
        self, step: int, state: TrainState, images: np.ndarray
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        yield "samples", f"step_{step}.png", grids.grid(images)
        if self.sampler.reconstructs:
            some = {name: x[:RECONSTRUCTED] for name, x in next(self.batches()).items()}
            originals = some["image"]
            again = self.sampler.reconstructions(state, self.key, originals, some.get("label"))
            sets = [originals, *self.sampler.observed(self.key, originals), again]
            yield "reconstructions", f"reconstructions_{step}.png", grids.pairs(*sets)

    def _look_inside(self, step: int, state: TrainState) -> None:
        """Records the family's profile, and the codes of some held-out images."""
        folder = self.directory.parent
        if self.family.profile is not None:
            batch = {k: v for k, v in next(self.batches()).items() if k != "mask"}
            keys = per_example(self.key, len(batch["image"]))
            x, y = self.family.compiled_profile(state, keys, batch)
            inside.add_profile(folder, step, self.family.profile, np.asarray(x), np.asarray(y))
        if self.family.encode is not None:
            inside.write_codes(folder, step, self._codes(state))

    def _codes(self, state: TrainState) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Codes and labels of held-out images, by the program that reconstructs them."""
        for batch in self.batches():
            images, label = batch["image"], batch.get("label")
            for first in range(0, len(images) - RECONSTRUCTED + 1, RECONSTRUCTED):
                some = slice(first, first + RECONSTRUCTED)
                codes = self.sampler.latents_of(state, self.key, images[some])
                yield codes, None if label is None else label[some]
