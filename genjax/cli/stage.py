"""One stage of a run: a system trained in a directory of its own, or gone on with there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.cli.config import Run
from genjax.cli.faults import Faults
from genjax.cli.system import System
from genjax.cli.visit import Visit
from genjax.data import Images
from genjax.train import host_memory, loop, processes
from genjax.train.checkpoint import Checkpoints
from genjax.train.keys import eval_key, init_key
from genjax.train.layout import CompiledSteps, Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.state import TrainState

MOST_HELD = 1 << 30  # bytes of a data set kept on each device


class Stage:
    """Trains a system in a directory.

    before: the trained state of the stage before, if there is one. say gets a line at a time.
    """

    def __init__(
        self,
        system: System,
        before: TrainState | None,
        directory: Path,
        run: Run,
        images: Images,
        held_out: Images,
        layout: Layout,
        say: Callable[[str], None],
    ):
        self.system, self.before, self.directory = system, before, directory
        self.run, self.images, self.layout, self.say = run, images, layout, say
        self.key = jax.random.key(run.seed)
        every = run.every or max(1, round(len(images) / run.batch))
        self.plan = loop.Plan(
            system.steps or run.steps, every, max(1, every // 10), run.batch, len(images)
        )
        # XLA runs a convolution's gradients many times slower inside a loop on a CPU.
        slow = system.convolutional and jax.default_backend() == "cpu"
        self.dispatch = run.dispatch or (1 if slow else 50)
        key = eval_key(self.key)
        self.visit = Visit(system, layout, held_out, run, key, directory / "samples")
        self.checkpoints = Checkpoints(directory / "checkpoints")
        self.faults = Faults(directory, run, images, say)

    def train(self) -> TrainState:
        try:
            while True:
                state = self._start()
                try:
                    return self.layout.gather(self._go_on(state))
                except loop.NonFiniteError:
                    if not self.faults.rolling_back:
                        raise
        finally:
            self.checkpoints.close()

    def _start(self) -> TrainState:
        """The state of the newest intact checkpoint, or a fresh one."""
        key = init_key(self.key)
        like = self.layout.like(jax.eval_shape(self.system.first_state, key, self.before))
        count = sum(x.size for x in jax.tree.leaves(like.params))
        self.say(f"{count:,} parameters of {', '.join(like.params)}")
        restored = self.checkpoints.restore(like)
        self.checkpoints.discard_after(None if restored is None else int(restored.step))
        if restored is None:
            return self._fresh(key, like)
        if int(restored.step) < self.plan.steps:
            self.say(
                f"resumed at step {int(restored.step):,} of {self.plan.steps:,} "
                f"from {self.directory}"
            )
        return restored

    def _fresh(self, key: jax.Array, like: TrainState) -> TrainState:
        # What draws the state is compiled on one core, the step on the others.
        with host_memory.uncollected(), ThreadPoolExecutor(1) as pool:
            drawn = pool.submit(self.system.first_state, key, self.before)
            if self.plan.steps and not processes.is_multi_process():  # where pmap takes arrays only
                self.program.prepare(like, self.key, self.layout.feed(next(self._stream(0))))
            return self.layout.place(drawn.result())

    def _go_on(self, state: TrainState) -> TrainState:
        start, steps = int(state.step), self.plan.steps
        if start >= steps:
            self.say(f"already at step {start:,} of {steps:,}; --run.steps takes it further")
            return state
        metrics = MetricsWriter(self.directory, start, processes.is_main_process(), self._kept)
        began = time.monotonic()
        try:
            state = loop.fit(
                self.program,
                self.layout,
                state,
                self.faults.begin(self.key, start),
                self._stream(start),
                self.plan,
                checkpoints=self.checkpoints,
                writer=metrics,
                periodic_eval=lambda step, state: self.visit(step, state, metrics),
                on_nonfinite=self.faults,
            )
        finally:
            metrics.close()
        self.say(f"{steps - start:,} steps in {time.monotonic() - began:,.0f} s")
        self.say(f"pictures: {self.directory / 'samples'}")
        return state

    @cached_property
    def program(self) -> CompiledSteps:
        return self.layout.compile(
            self.system.game,
            scan_steps=self.dispatch,
            skip_nonfinite=self.run.non_finite == "skip",
            dataset=self._held(),
        )

    def _held(self) -> dict[str, np.ndarray] | None:
        """The data set, where it is to lie on the devices: gathers cost less than transfers."""
        whole = self.images.arrays
        if self.dispatch == 1 or whole is None or sum(x.nbytes for x in whole.values()) > MOST_HELD:
            return None
        return whole

    def _kept(self, row: dict[str, Any]) -> bool:
        """Not the visit of a run that ended in between, and now goes on."""
        visited = any(name.startswith("test/") for name in row)
        return row["step"] % self.plan.every == 0 or not visited

    def _stream(self, start: int) -> Iterator[Any]:
        indices = self.program.dataset is not None
        read = self.images.index_batches if indices else self.images.batches
        scan_steps = loop.largest_scan_steps(self.plan.every, self.dispatch)
        # A run resumed in the midst of a dispatch goes back to the grid of the whole run's.
        grid = min(self.plan.steps, -(-start // scan_steps) * scan_steps)
        for first, last in ((start, grid), (grid, self.plan.steps)):
            if first < last:
                yield from read(
                    self.run.seed,
                    first,
                    self.run.batch,
                    scan_steps=scan_steps,
                    stop=last,
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                )
