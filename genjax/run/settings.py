"""The settings of a run that every family shares: how long, how large, where, on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genjax.data.settings import DataSettings
from genjax.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How long, how large, where.

    Raises:
      ConfigError: where a number is below its least value.
    """

    steps: int
    """Train steps in all; a resumed run continues up to here."""
    batch: int
    """Images per step, over all devices and processes."""
    dir: str | None = None
    """The run's directory. None: runs/ and the name of the experiment."""
    seed: int = 0
    """Of the parameters, the noise and the order of the images."""
    every: int | None = None
    """Steps between periodic evaluations: scores, sample images, checkpoint. None: an epoch."""
    scan_steps: int | None = None
    """The most train steps compiled into one program. None: 50, but 1 for convolutions on a CPU. A
    convolutional run that resumes with 1 after more, or the reverse, rounds differently."""
    samples: int = 64
    """Images in samples/step_N.png."""
    sharded: bool = False
    """Shard parameters over the devices (jit) instead of copying them to each (pmap)."""
    devices: int | None = None
    """Devices to use in each process. None: all."""
    non_finite: Literal["stop", "skip", "rollback"] = "stop"
    """What to do about a loss or gradient that is NaN or infinite: stop, skip that update, or go
    back to the last checkpoint with other noise. Each is recorded in faults.jsonl."""
    fresh: bool = False
    """Start again from step 0. What is in the directory is kept in a folder "earlier" in it."""
    distributed: bool = False
    """Join the run's other processes first (jax.distributed.initialize)."""
    coordinator: str | None = None
    """HOST:PORT where process 0 listens. None: found automatically (TPU, Slurm, Open MPI)."""
    processes: int | None = None
    """Number of processes in all. None: found automatically."""
    process: int | None = None
    """Index of this process, from 0. None: found automatically."""

    def __post_init__(self) -> None:
        least = {"steps": 0, "seed": 0, "batch": 1, "every": 1, "scan_steps": 1, "samples": 1}
        for name, low in {**least, "devices": 1, "processes": 1, "process": 0}.items():
            if (value := getattr(self, name)) is not None and value < low:
                flag = name.replace("_", "-")
                raise ConfigError(f"--run.{flag} must be at least {low}, not {value}")


@dataclass(frozen=True)
class Config:
    """The settings of a run that was started from Python; an experiment's own have more fields.

    Attributes:
      run: how long, how large, where.
      data: on what.
    """

    run: Settings
    data: DataSettings
