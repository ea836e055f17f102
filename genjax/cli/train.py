"""The command `train`: data, system, loop and pictures put together in a run directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from genjax.cli.config import ConfigError, Run
from genjax.cli.directory import claim, open_split, run_directory
from genjax.cli.stage import Stage
from genjax.cli.system import Build, Spec, System, built
from genjax.data import Images
from genjax.train import processes
from genjax.train.layout import DataParallel, FullySharded, Layout, check
from genjax.train.state import TrainState


class WriteError(Exception):
    """The run directory cannot be written to any more."""

    exit_code = 1
    at_once = True


def train(name: str, config: Any, build: Build) -> TrainState:
    """Trains an experiment in its run directory, or goes on where it stopped."""
    _join(config.run)
    try:
        with processes.readable_collective_errors():
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
    if processes.is_main_process():
        claim(name, config, spec, images.fingerprint)
    if processes.is_multi_process():
        processes.agree("their settings", repr(_alike(config)))
        processes.agree("their images", images.fingerprint)
    return _stages(system, directory, config, images, held_out, layout)


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


def _stages(
    system: System, directory: Path, config: Any, images: Images, held_out: Images, layout: Layout
) -> TrainState:
    """Trains the stages of a system one after the other, each in its own directory."""
    before = None
    if system.before:
        name = system.before.name
        before = _stages(system.before, directory / name, config, images, held_out, layout)
        _say(f"{name}: done; its weights stay frozen from here on")
    for file in images.skipped:
        _say(f"left out: {file}")
    _say(
        f"{directory.name}: {len(images):,} images {images.shape[1:]} of {images.name}, "
        f"{layout.devices_in_all} {jax.devices()[0].device_kind} device(s)"
    )
    stage = Stage(system, before, directory, config.run, images, held_out, layout, _say)
    return stage.train()


def _say(line: str) -> None:
    if processes.is_main_process():
        print(line, flush=True)
