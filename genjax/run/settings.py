"""The settings of a run that every family shares: how long, how large, where, on what."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from genjax import limits
from genjax.data.settings import DataSettings
from genjax.errors import ConfigError
from genjax.limits import Count, Limits, Natural, Positive, Seed
from genjax.run.score_names import CheckpointScore

# Marks a setting that acts on nothing but sampling: `Annotated[float, SAMPLING]`. The commands that
# make images take it as a flag, and where that is not given, the run's own value.
SAMPLING = "sampling"


def sampling_settings(kind: type) -> dict[str, Any]:
    """The settings of an experiment that act on nothing but sampling.

    Args:
      kind: its dataclass.

    Returns:
      {name: annotation} of those marked by `SAMPLING`.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    return {k: v for k, v in hints.items() if SAMPLING in getattr(v, "__metadata__", ())}


@dataclass(frozen=True)
class Settings:
    """How long, how large, where.

    Raises:
      ConfigError: where a number is out of its limits.
    """

    steps: Natural
    """Train steps in all; a resumed run continues up to here."""
    batch: Count
    """Images per step, over all devices and processes."""
    dir: str | None = None
    """The run's directory. None: runs/ and the name of the experiment."""
    minutes: Positive | None = None
    """Train for about as long instead: the first steps are timed, and --run.steps and, where it is
    not given, --run.every follow and are recorded. Images and scores come on top."""
    seed: Seed = 0
    """Of the parameters, the noise and the order of the images."""
    seeds: Annotated[int, Limits(2, 10_000)] | None = None
    """Train as many runs, with --run.seed and the numbers after it, each in its folder seed_N of
    the directory. seeds.json has mean and deviation of their scores."""
    every: Count | None = None
    """Steps between periodic evaluations: scores, sample images, checkpoint. None: an epoch."""
    log: Count = 50
    """Steps between rows of metrics.jsonl, each the means over those steps."""
    scan_steps: Count | None = None
    """The most train steps compiled into one program. None: 50, but 1 for convolutions on a CPU. A
    convolutional run that resumes with 1 after more, or the reverse, rounds differently."""
    samples: Count = 64
    """Images in samples/step_N.png."""
    score: CheckpointScore | None = None
    """Score samples against held-out images at each periodic evaluation, and rank checkpoints by
    it: kd_vgg16 is the kernel distance of VGG16's features. None: by the family's own score."""
    score_images: Annotated[int, Limits(40, 100_000)] = 500
    """Samples to draw for --run.score each time."""
    keep: Count | Literal["all"] | None = None
    """Latest checkpoints to keep, beside the best. None: 2, or as many as the run kept before."""
    sharded: bool = False
    """Shard parameters over the devices (jit) instead of copying them to each (pmap)."""
    devices: Count | None = None
    """Devices to use in each process. None: all."""
    non_finite: Literal["stop", "skip", "rollback"] = "stop"
    """What to do about a loss or gradient that is NaN or infinite: stop, skip that update, or go
    back to the last checkpoint with other noise. Each is recorded in faults.jsonl."""
    fresh: bool = False
    """Start again from step 0. What is in the directory is kept in a folder "earlier" in it."""
    init_from: str | None = None
    """A run or an export whose weights to start with: of the players of the same names, which must
    have the same arrays. The optimizer starts anew."""
    allow_changes: bool = False
    """Resume although settings or images differ from the run's. Each change is recorded."""
    distributed: bool = False
    """Join the run's other processes first (jax.distributed.initialize)."""
    coordinator: str | None = None
    """HOST:PORT where process 0 listens. None: found automatically (TPU, Slurm, Open MPI)."""
    processes: Count | None = None
    """Number of processes in all. None: found automatically."""
    process: Natural | None = None
    """Index of this process, from 0. None: found automatically."""

    def __post_init__(self) -> None:
        limits.check(self, "run.")
        if self.process is not None and self.processes and self.process >= self.processes:
            raise ConfigError(
                f"--run.process {self.process} must be below --run.processes {self.processes}"
            )


@dataclass(frozen=True)
class Config:
    """The settings of a run that was started from Python; an experiment's own have more fields.

    Attributes:
      run: how long, how large, where.
      data: on what.
    """

    run: Settings
    data: DataSettings
