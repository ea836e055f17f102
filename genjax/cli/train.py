"""The command `train`: data, system, loop and pictures put together in a run directory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import genjax
from genjax.cli.config import ConfigError, Data, Run, difference, load, save
from genjax.cli.generating import Generator, labels, latents
from genjax.cli.system import Build, Spec, System
from genjax.data import Images, open_images
from genjax.report import pictures
from genjax.train import loop, processes
from genjax.train.checkpoint import Checkpoints
from genjax.train.game import begin
from genjax.train.layout import DataParallel, FullySharded, Layout, check
from genjax.train.metrics import Metrics
from genjax.train.state import TrainState

MOST_VALIDATED = 1000  # images of the test set scored at each visit


def train(name: str, config: Any, build: Build) -> TrainState:
    """Trains an experiment in its run directory, or goes on where it stopped."""
    _join(config.run)
    with processes.lost():
        return _train(name, config, build)


def _train(name: str, config: Any, build: Build) -> TrainState:
    images, held_out = open_split(config.data, "train"), open_split(config.data, "test")
    spec = Spec(images.shape[1:], images.num_classes, len(images))
    system = build(config, spec)
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
        same = dataclasses.replace(config, run=dataclasses.replace(config.run, process=None))
        processes.agree("their settings", repr(same))
        processes.agree("their images", images.fingerprint)
    return _Trainer(config, images, held_out, layout).train(system, directory)


def _join(run: Run) -> None:
    given = (run.coordinator, run.processes, run.process)
    if run.distributed:
        processes.join(*given)
    elif given != (None, None, None):
        raise ConfigError("--run.coordinator, processes and process need --run.distributed")


def run_directory(name: str, config: Any) -> Path:
    return Path(config.run.dir or f"runs/{name}").absolute()


def claim(name: str, config: Any, spec: Spec, fingerprint: str) -> None:
    """Writes config.json into the run directory; one that holds something else is left alone."""
    directory = run_directory(name, config)
    values = {
        "genjax": genjax.__version__,
        "experiment": name,
        "config": dataclasses.asdict(config),
        "images": {**dataclasses.asdict(spec), "fingerprint": fingerprint},
    }
    values = _as_json(values)
    path = directory / "config.json"
    if path.exists():
        old = load(path)
        if old.get("experiment") != name:
            raise ConfigError(
                f"{directory} is a run of {old.get('experiment')}: give another --run.dir"
            )
        changed = difference(old.get("config", {}), values["config"])
        if not changed and old.get("images") != values["images"]:
            changed = "the images are others"
        if changed:
            raise ConfigError(
                f"{directory} holds a run with other settings ({changed}): "
                "repeat those, or give another --run.dir"
            )
    elif directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no run: give another --run.dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save(path, values)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory} ({error.strerror}): give another --run.dir"
        ) from None


def _as_json(values: Any) -> Any:
    """Tuples become lists, as they do in a file."""
    if isinstance(values, dict):
        return {key: _as_json(value) for key, value in values.items()}
    return [_as_json(v) for v in values] if isinstance(values, list | tuple) else values


def open_split(data: Data, split: str) -> Images:
    return open_images(
        data.name,
        split=split,
        data_dir=data.dir,
        folder=data.folder,
        size=data.size,
        channels=data.channels,
        bad=data.bad,
        download=data.download,
    )


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
        run = self.config.run
        steps = system.steps or run.steps
        # One program draws all parameters, and runs once: not worth the compiler's effort.
        init = jax.jit(system.init, compiler_options={"xla_backend_optimization_level": 0})
        params, variables = init(jax.random.fold_in(self.key, 0), before)
        state = begin(system.game, params, variables)
        count = sum(x.size for x in jax.tree.leaves(state.params))
        for file in self.images.skipped:
            self.say(f"left out: {file}")
        self.say(
            f"{directory.name}: {count:,} parameters, {len(self.images):,} images "
            f"{self.images.shape[1:]} of {self.images.name}, {self.layout.devices_in_all} "
            f"{jax.devices()[0].device_kind} device(s)"
        )
        checkpoints = Checkpoints(directory / "checkpoints")
        state = self.layout.place(state)
        restored = checkpoints.restore(state, say=self.say)
        if restored is not None:
            state = restored
            if int(state.step) < steps:
                self.say(f"resumed at step {int(state.step):,} of {steps:,} from {directory}")
        start = int(state.step)
        checkpoints.discard_after(start if restored is not None else None)
        every = run.every or max(1, round(len(self.images) / run.batch))
        plan = loop.Plan(steps, every, max(1, every // 10), run.batch, len(self.images))
        # XLA runs a convolution's gradients many times slower inside a loop on a CPU.
        slow = system.convolutional and jax.default_backend() == "cpu"
        dispatch = run.dispatch or (1 if slow else 50)
        metrics = Metrics(directory, start, enabled=self.speaks)
        visit = _Visit(self, system, directory, metrics)
        began = time.monotonic()
        try:
            state = loop.fit(
                self.layout.compile(system.game, several=dispatch > 1),
                self.layout,
                state,
                jax.random.fold_in(self.key, 1),
                self.stream(start, steps, loop.divisor(every, dispatch)),
                plan,
                checkpoints=checkpoints,
                metrics=metrics,
                visit=visit,
            )
        finally:
            metrics.close()
            checkpoints.close()
        if start >= steps:
            self.say(f"already at step {start:,} of {steps:,}; --run.steps takes it further")
        else:
            self.say(f"{steps - start:,} steps in {time.monotonic() - began:,.0f} s")
            self.say(f"pictures: {directory / 'samples'}")
        return self.layout.gather(state)

    def stream(self, start: int, steps: int, stack: int) -> Iterator[Any]:
        if start >= steps:
            return iter(())
        return self.images.batches(
            self.config.run.seed,
            start,
            self.config.run.batch,
            stack=stack,
            stop=steps,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def say(self, line: str) -> None:
        if self.speaks:
            print(line, flush=True)


class _Visit:
    """Scores the held-out images and draws the fixed noise, every so many steps."""

    def __init__(self, trainer: _Trainer, system: System, directory: Path, metrics: Metrics):
        self.trainer, self.system, self.metrics = trainer, system, metrics
        self.pictures = directory / "samples"
        self.generator = Generator(system)
        self.validate = jax.jit(system.validate)
        key = jax.random.fold_in(trainer.key, 2)
        n = trainer.config.run.samples
        self.key, self.z, self.label = key, latents(system, key, n), labels(system, n)
        size = min(trainer.config.run.batch, len(trainer.held_out), MOST_VALIDATED)
        self.batches = lambda: trainer.held_out.evaluation_batches(size, limit=MOST_VALIDATED)

    def __call__(self, step: int, state: TrainState) -> tuple[dict[str, float], float | None]:
        state = self.trainer.layout.gather(state)
        if not self.trainer.speaks:
            return {}, None  # the others wait for the first at their next step
        numbers = self._numbers(state)
        self._draw(step, state)
        return numbers, next(iter(numbers.values()), None)

    def _numbers(self, state: TrainState) -> dict[str, float]:
        # The same keys at every visit: the scores differ by the weights alone.
        found: dict[str, list[np.ndarray]] = {}
        for number, batch in enumerate(self.batches()):
            mask = batch.pop("mask")
            first = number * len(mask)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, first + jnp.arange(len(mask)))
            for name, values in self.validate(state, keys, batch).items():
                found.setdefault(f"test/{name}", []).append(np.asarray(values)[mask])
        return {name: float(np.concatenate(values).mean()) for name, values in found.items()}

    def _draw(self, step: int, state: TrainState) -> None:
        images = self.generator.images(state, self.key, self.z, self.label)
        self._keep(step, "samples", f"step_{step}.png", pictures.grid(images))
        if self.system.encode:
            originals = next(self.batches())["image"][:32]
            z = self.generator.encode(state, originals)
            again = self.generator.images(state, self.key, z)
            sheet = pictures.pairs(originals, again)
            self._keep(step, "reconstructions", f"reconstructions_{step}.png", sheet)

    def _keep(self, step: int, name: str, file: str, picture: np.ndarray) -> None:
        pictures.save(self.pictures / file, picture)
        self.metrics.picture(step, name, picture)
