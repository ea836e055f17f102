"""Trains one family in a directory of its own, or resumes there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.data.images import Images
from genjax.run.checkpoint_score import CheckpointScorer
from genjax.run.family import Family
from genjax.run.first_weights import FirstWeights
from genjax.run.nonfinite import NonFinitePolicy
from genjax.run.page_in_training import RunPage
from genjax.run.periodic_eval import PeriodicEval
from genjax.run.settings import Settings
from genjax.train import host_memory, loop, processes, waiting
from genjax.train.checkpoint import Checkpoints
from genjax.train.convolutions import convolves
from genjax.train.game import on_host
from genjax.train.keys import eval_key, init_key
from genjax.train.layout import CompiledSteps, Layout
from genjax.train.metrics import MetricsWriter, is_evaluation
from genjax.train.plan import Plan, first_images, largest_scan_steps
from genjax.train.state import TrainState
from genjax.train.window import Window

logger = logging.getLogger(__name__)

MOST_ON_DEVICE = 1 << 30  # bytes of a data set kept on each device


class Trainer:
    """Trains a family in a directory.

    Args:
      family: the family.
      before: the trained state of the family that this one builds upon, if there is one.
      directory: of this family's metrics, samples and checkpoints.
      settings: the run's.
      images: to train on.
      held_out: for the periodic evaluation.
      layout: of the state over the devices.
      first: the weights to start with; None on processes but the main one, too.
      page: of the complete run, written after each evaluation and at the end; None for none.
      scorer: of samples, whose score ranks the checkpoints; None for the family's own score.
    """

    def __init__(
        self,
        family: Family,
        before: TrainState | None,
        directory: Path,
        settings: Settings,
        images: Images,
        held_out: Images,
        layout: Layout,
        first: FirstWeights | None = None,
        page: RunPage | None = None,
        scorer: CheckpointScorer | None = None,
    ):
        self.family, self.before, self.directory = family, before, directory
        self.settings, self.images, self.layout = settings, images, layout
        self.first, self.page = first, page
        self.key = jax.random.key(settings.seed)
        epoch = max(1, round(len(images) / settings.batch))
        every = settings.every or epoch
        self.plan = Plan(
            settings.steps if family.steps is None else family.steps,
            every,
            settings.log,
            settings.batch,
            len(images),
        )
        self.periodic_eval = PeriodicEval(
            family,
            layout,
            held_out,
            settings,
            eval_key(self.key),
            directory / "samples",
            scorer,
            epoch,
        )
        keep = None if settings.keep == "all" else settings.keep or 2
        self.checkpoints = Checkpoints(directory / "checkpoints", keep)
        self.policy = NonFinitePolicy(directory, settings, images)

    def train(self) -> TrainState:
        """Trains up to the last step, from the newest intact checkpoint where there is one.

        Returns:
          The final state, on one device.
        """
        try:
            while True:
                state = self._start()
                try:
                    return self.layout.gather(self._resume(state))
                except loop.NonFiniteError:
                    if not self.policy.rolling_back:
                        raise
        finally:
            self.checkpoints.close()

    def steps_per_second(self, seconds: float) -> float:
        """How fast the train steps are once they are compiled; nothing is written.

        Args:
          seconds: to train for.

        Returns:
          Steps per second.
        """
        state, done, began, now = self._first_state(), 0, 0.0, 0.0
        for batches in self._stream(0):
            state, _ = self.train_steps(state, self.key, self.layout.feed(batches))
            jax.block_until_ready(state)
            now = time.monotonic()
            if not began:  # the first call allocates
                began = now
                continue
            done += len(jax.tree.leaves(batches)[0])
            if now - began >= seconds:
                break
        return done / (now - began)

    def memory(self) -> int | None:
        """What a call of the train steps takes; nothing is computed.

        Returns:
          Bytes on each device; None where the compiler does not tell.
        """
        with waiting.announced("compiling the train steps"), host_memory.uncollected():
            batches = self.layout.feed(next(self._stream(0)))
            return self.train_steps.memory(self._like, self.key, batches)

    @cached_property
    def _like(self) -> TrainState:
        key = init_key(self.key)
        return self.layout.like(jax.eval_shape(self.family.first_state, key, self.before))

    def _start(self) -> TrainState:
        """The state of the newest intact checkpoint, or that before the first step."""
        like = self._like
        count = sum(x.size for x in jax.tree.leaves(like.params))
        logger.info("%s parameters of %s", f"{count:,}", ", ".join(like.params))
        restored = self.checkpoints.restore(like)
        self.checkpoints.set_aside_after(None if restored is None else int(restored.step))
        if restored is None:
            return self._first_state()
        step, steps = int(restored.step), self.plan.steps
        if step < steps:
            logger.info(
                "resumed at step %s of %s from %s", f"{step:,}", f"{steps:,}", self.directory
            )
        return restored

    def _first_state(self) -> TrainState:
        key = init_key(self.key)
        # What draws the state is compiled on one core, the step on the others.
        with (
            waiting.announced("compiling the train steps"),
            host_memory.uncollected(),
            ThreadPoolExecutor(1) as pool,
        ):
            # Beside the arrays that it draws upon, where there are any.
            where = on_host(key) if self.before is None else key
            drawn = pool.submit(self.family.first_state, where, self.before)
            if self.plan.steps and not processes.is_multi_process():  # there pmap takes arrays only
                batches = self.layout.feed(next(self._stream(0)))
                self.train_steps.prepare(self._like, self.key, batches)
            return self._with_first_weights(drawn.result())

    def _with_first_weights(self, state: TrainState) -> TrainState:
        """The state before the first step, placed."""
        if self.first is not None:
            state = self.first.put_into(self.family, state)
        if processes.is_multi_process() and int(processes.maximum(self.first is not None)):
            return processes.broadcast_from_main(jax.tree.map(np.asarray, state), self._like)
        return self.layout.place(state)

    def _resume(self, state: TrainState) -> TrainState:
        start, steps = int(state.step), self.plan.steps
        if start >= steps:
            if self.family.steps != 0:  # else its weights are those it starts with
                logger.warning(
                    "already at step %s of %s; --run.steps takes it further",
                    f"{start:,}",
                    f"{steps:,}",
                )
            return state
        window = Window.from_dict(self.checkpoints.window(start), start)
        writer = MetricsWriter(
            self.directory,
            start,
            processes.is_main_process(),
            partial(self._keep, start, window.start),
            self.checkpoints.last_row(start),
        )
        if self.page is not None:
            self.page.started(start)
        began = time.monotonic()
        try:
            state = loop.fit(
                self.train_steps,
                self.layout,
                state,
                self.policy.start(self.key, start),
                self._stream(start),
                replace(self.plan, first_images=first_images(steps, self.plan.every, self._grid)),
                checkpoints=self.checkpoints,
                writer=writer,
                window=window,
                periodic_eval=lambda step, state: self.periodic_eval(step, state, writer),
                draw=lambda step, state: self.periodic_eval.first_images(step, state, writer),
                after_eval=self._write_page,
                on_nonfinite=self.policy,
            )
        finally:
            writer.close()
            self._write_page()
        logger.info("%s steps in %.0f s", f"{steps - start:,}", time.monotonic() - began)
        logger.info("samples: %s", self.directory / "samples")
        return state

    def _write_page(self) -> None:
        if self.page is not None:
            self.page.write()

    @cached_property
    def scan_steps(self) -> int:
        """The most train steps compiled into one program."""
        if self.settings.scan_steps is not None:
            return self.settings.scan_steps
        if jax.default_backend() != "cpu":
            return 50
        # XLA runs a convolution's gradients many times slower inside a loop on a CPU.
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.settings.batch, *x.shape[1:]), x.dtype),
            self.images.batch(self.settings.seed, 0, 1),
        )
        return 1 if convolves(self.family.game, self._like, batch) else 50

    @cached_property
    def _grid(self) -> int:
        """Calls of the train steps end at its multiples."""
        return largest_scan_steps(self.plan.every, self.scan_steps)

    @cached_property
    def train_steps(self) -> CompiledSteps:
        """The compiled train steps, those of this family's last run where they are the same."""
        skip = self.settings.non_finite == "skip"
        key, known = (self.layout, self.scan_steps, skip, self.images), self.family.compiled_steps
        if key not in known:
            known.clear()  # it may hold a data set on the devices
            known[key] = self.layout.compile(
                self.family.game,
                scan_steps=self.scan_steps,
                skip_nonfinite=skip,
                dataset=self._dataset(),
            )
        return known[key]

    def _dataset(self) -> dict[str, np.ndarray] | None:
        """The data set, where it is to lie on the devices: gathers cost less than transfers."""
        arrays = self.images.arrays
        if self.scan_steps == 1 or arrays is None:
            return None
        return arrays if sum(x.nbytes for x in arrays.values()) <= MOST_ON_DEVICE else None

    def _keep(self, start: int, last: int, row: dict[str, Any]) -> bool:
        """Not the last evaluation, nor the last row of metrics, of a run that ended between two."""
        if is_evaluation(row):
            return row["step"] != start or start % self.plan.every == 0
        return row["step"] <= last

    def _stream(self, start: int) -> Iterator[Any]:
        indices = self.train_steps.dataset is not None
        read = self.images.index_batches if indices else self.images.batches
        scan_steps = self._grid
        # A run resumed between two multiples of scan_steps returns to those of one uninterrupted.
        grid = min(self.plan.steps, -(-start // scan_steps) * scan_steps)
        for first, last in ((start, grid), (grid, self.plan.steps)):
            if first < last:
                yield from read(
                    self.settings.seed,
                    first,
                    self.settings.batch,
                    scan_steps=scan_steps,
                    stop=last,
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                )
