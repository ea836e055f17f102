"""The command `train`: data, system, loop and pictures put together in a run directory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.cli.config import ConfigError, Run
from genjax.cli.directory import claim, open_split, run_directory
from genjax.cli.faults import INIT, VISIT, Faults
from genjax.cli.system import Build, Spec, System, built, first_state
from genjax.cli.visit import Visit
from genjax.data import Images
from genjax.train import loop, processes
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import DataParallel, FullySharded, Layout, check
from genjax.train.metrics import Metrics
from genjax.train.state import TrainState

MOST_HELD = 1 << 30  # bytes of a data set kept on each device


class WriteError(Exception):
    """The run directory cannot be written to any more."""

    exit_code = 1
    at_once = True


def train(name: str, config: Any, build: Build) -> TrainState:
    """Trains an experiment in its run directory, or goes on where it stopped."""
    _join(config.run)
    try:
        with processes.lost():
            return _train(name, config, build)
    except OSError as error:
        raise WriteError(
            f"cannot write to {run_directory(name, config)}: {error.strerror or error}; "
            "what was saved before stays"
        ) from error


def _train(name: str, config: Any, build: Build) -> TrainState:
    images, held_out = open_split(config.data, "train"), open_split(config.data, "test")
    spec = Spec(images.shape[1:], images.num_classes, len(images))
    system, _ = built(build, config, spec, "these settings describe")
    if (config.run.devices or 0) > jax.local_device_count():
        raise ConfigError(
            f"--run.devices {config.run.devices}: there are {jax.local_device_count()} here"
        )
    layout: Layout = (
        FullySharded(config.run.devices) if config.run.sharded else DataParallel(config.run.devices)
    )
    stage: System | None = system
    while stage:
        check(stage.game, config.run.batch, layout.devices_in_all)
        stage = stage.before
    directory = run_directory(name, config)
    if processes.speaks():
        claim(name, config, spec, images.fingerprint)
    if processes.several():
        processes.agree("their settings", repr(_alike(config)))
        processes.agree("their images", images.fingerprint)
    return _Trainer(config, images, held_out, layout).train(system, directory)


def _alike(config: Any) -> Any:
    """The settings without those that each host may have its own of."""
    return dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, process=None, dir=None),
        data=dataclasses.replace(config.data, dir=None),
    )


def _join(run: Run) -> None:
    given = (run.coordinator, run.processes, run.process)
    if run.distributed:
        try:
            processes.join(*given)
        except processes.ProcessError as error:
            raise ConfigError(
                f"{error}; where jax finds no cluster, give --run.coordinator HOST:PORT, "
                "--run.processes and --run.process"
            ) from error
    elif given != (None, None, None):
        raise ConfigError("--run.coordinator, processes and process need --run.distributed")


class _Trainer:
    """Trains the stages of a system one after the other, each in its own directory."""

    def __init__(self, config: Any, images: Images, held_out: Images, layout: Layout):
        self.config, self.images, self.held_out = config, images, held_out
        self.layout = layout
        self.key = jax.random.key(config.run.seed)
        self.speaks = processes.speaks()

    def train(self, system: System, directory: Path) -> TrainState:
        before = None
        if system.before:
            before = self.train(system.before, directory / system.before.name)
            self.say(f"{system.before.name}: done; its weights stay frozen from here on")
        for file in self.images.skipped:
            self.say(f"left out: {file}")
        self.say(
            f"{directory.name}: {len(self.images):,} images {self.images.shape[1:]} of "
            f"{self.images.name}, {self.layout.devices_in_all} {jax.devices()[0].device_kind} "
            "device(s)"
        )
        checkpoints = Checkpoints(directory / "checkpoints")
        faults = Faults(directory, self.config.run, self.images, self.say)
        try:
            while True:
                state = self._start(system, before, checkpoints, directory)
                try:
                    return self.layout.gather(
                        self._go_on(system, state, checkpoints, faults, directory)
                    )
                except loop.NonFiniteError:
                    if not faults.rolling_back:
                        raise
        finally:
            checkpoints.close()

    def _start(
        self,
        system: System,
        before: TrainState | None,
        checkpoints: Checkpoints,
        directory: Path,
    ) -> TrainState:
        """The state of the newest intact checkpoint, or a fresh one."""
        state = self.layout.place(first_state(system)(jax.random.fold_in(self.key, INIT), before))
        count = sum(x.size for x in jax.tree.leaves(state.params))
        self.say(f"{count:,} parameters of {', '.join(state.params)}")
        restored = checkpoints.restore(state, say=self.say)
        checkpoints.discard_after(None if restored is None else int(restored.step))
        if restored is None:
            return state
        steps = system.steps or self.config.run.steps
        if int(restored.step) < steps:
            self.say(f"resumed at step {int(restored.step):,} of {steps:,} from {directory}")
        return restored

    def _go_on(
        self,
        system: System,
        state: TrainState,
        checkpoints: Checkpoints,
        faults: Faults,
        directory: Path,
    ) -> TrainState:
        run = self.config.run
        start, steps = int(state.step), system.steps or run.steps
        if start >= steps:
            self.say(f"already at step {start:,} of {steps:,}; --run.steps takes it further")
            return state
        every = run.every or max(1, round(len(self.images) / run.batch))
        # XLA runs a convolution's gradients many times slower inside a loop on a CPU.
        slow = system.convolutional and jax.default_backend() == "cpu"
        dispatch = run.dispatch or (1 if slow else 50)
        key = jax.random.fold_in(self.key, VISIT)
        visit = Visit(system, self.layout, self.held_out, run, key, directory / "samples")

        def kept(row: dict[str, Any]) -> bool:
            """Not the visit of a run that ended in between, and now goes on."""
            return row["step"] % every == 0 or not any(name.startswith("test/") for name in row)

        metrics = Metrics(directory, start, self.speaks, kept)
        held = self._held(dispatch)
        stack = loop.divisor(every, dispatch)
        began = time.monotonic()
        try:
            state = loop.fit(
                self.layout.compile(
                    system.game,
                    several=dispatch > 1,
                    skip=run.non_finite == "skip",
                    held=held,
                ),
                self.layout,
                state,
                faults.begin(self.key, start),
                self._stream(start, steps, stack, as_indices=held is not None),
                loop.Plan(steps, every, max(1, every // 10), run.batch, len(self.images)),
                checkpoints=checkpoints,
                metrics=metrics,
                visit=lambda step, state: visit(step, state, metrics),
                fault=faults,
            )
        finally:
            metrics.close()
        self.say(f"{steps - start:,} steps in {time.monotonic() - began:,.0f} s")
        self.say(f"pictures: {directory / 'samples'}")
        return state

    def _held(self, dispatch: int) -> dict[str, np.ndarray] | None:
        """The data set, where it is to lie on the devices: gathers cost less than transfers."""
        whole = self.images.arrays
        if dispatch == 1 or whole is None or sum(x.nbytes for x in whole.values()) > MOST_HELD:
            return None
        return whole

    def _stream(self, start: int, steps: int, stack: int, *, as_indices: bool) -> Iterator[Any]:
        read = self.images.index_batches if as_indices else self.images.batches
        # A run resumed in the midst of a dispatch goes back to the grid of the whole run's.
        grid = min(steps, -(-start // stack) * stack)
        for first, last in ((start, grid), (grid, steps)):
            if first < last:
                yield from read(
                    self.config.run.seed,
                    first,
                    self.config.run.batch,
                    stack=stack,
                    stop=last,
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                )

    def say(self, line: str) -> None:
        if self.speaks:
            print(line, flush=True)
