"""The visit a run gets every so many steps: its scores on held-out images, and its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np

from genjax.cli.config import Run
from genjax.cli.generating import Generator, labels, latents
from genjax.cli.system import System
from genjax.data import Images
from genjax.evaluate.average import average, ordered_jit
from genjax.report import pictures
from genjax.train import processes
from genjax.train.layout import Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.state import TrainState

MOST_VALIDATED = 1000  # images of the test set scored at each visit


class Visit:
    """Scores the held-out images and draws the fixed noise, every so many steps."""

    def __init__(
        self,
        system: System,
        layout: Layout,
        held_out: Images,
        run: Run,
        key: jax.Array,
        directory: Path,
    ):
        self.system, self.layout, self.directory = system, layout, directory
        self.generator = Generator(system)
        self.validate = ordered_jit(system.validate)
        self.key, self.samples = key, run.samples
        self.label = labels(system, run.samples)
        size = min(run.batch, len(held_out), MOST_VALIDATED)
        self.batches = lambda: held_out.evaluation_batches(size, limit=MOST_VALIDATED)

    @cached_property
    def z(self) -> jax.Array:  # not before the first visit: what draws it has to be compiled
        return latents(self.system, self.key, self.samples)

    def __call__(
        self, step: int, state: TrainState, metrics: MetricsWriter
    ) -> tuple[dict[str, float], float | None]:
        """Numbers to report, and the one to rank the checkpoint by."""
        state = self.layout.gather(state)
        if not processes.is_main_process():
            return {}, None  # the others wait for the first at their next step
        # The same keys at every visit: the scores differ by the weights alone.
        found = average(partial(self.validate, state), self.batches(), self.key)
        numbers = {f"test/{name}": score.mean for name, score in found.items()}
        for name, file, picture in self._drawn(step, state):
            pictures.save(self.directory / file, picture)
            metrics.image(step, name, picture)
        return numbers, next(iter(numbers.values()), None)

    def _drawn(self, step: int, state: TrainState) -> Iterator[tuple[str, str, np.ndarray]]:
        images = self.generator.images(state, self.key, self.z, self.label)
        yield "samples", f"step_{step}.png", pictures.grid(images)
        if self.system.encode:
            originals = next(self.batches())["image"][:32]
            z = self.generator.encode(state, originals)
            again = self.generator.images(state, self.key, z)
            yield "reconstructions", f"reconstructions_{step}.png", pictures.pairs(originals, again)
