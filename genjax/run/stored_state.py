"""The state of a run or an export, on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from genjax.errors import ConfigError, shortened
from genjax.run import averaging, export
from genjax.run.family import Family, untrained_state
from genjax.train.checkpoint import Checkpoints
from genjax.train.keys import init_key
from genjax.train.layout import on_one_device
from genjax.train.state import TrainState


def opened_state(
    directory: Path,
    values: dict[str, Any],
    family: Family,
    like: TrainState,
    *,
    average: str | None = None,
    weak: str | None = None,
    **which: Any,
) -> TrainState:
    """The state of a run, by its checkpoints, or of an export.

    Args:
      directory: the run's, or the export's.
      values: the contents of its config.json.
      family: the family.
      like: the shapes of its state.
      average: which average to use, as for `averaging.choose`.
      weak: likewise, of a worse model that guides.
      which: of the checkpoints, as for `checkpoint_state`.

    Returns:
      The state.

    Raises:
      ConfigError: where there is none, or a checkpoint or an average is asked of an export.
      CheckpointError: where it holds another architecture.
    """
    if not export.is_export(directory):
        state = checkpoint_state(directory, family, like, **which)
        return averaging.choose(state, directory, like, average=average, weak=weak)
    asked = {"best": which.get("best"), "step": which.get("step") is not None}
    if name := next((name for name, given in asked.items() if given), None):
        raise ConfigError(f"{directory} is an export, of one step: leave out --{name}")
    for name, given in (("average", average), ("weak", weak)):
        if given is not None:
            raise ConfigError(f"{directory} is an export, of one average: leave out --{name}")
    return jax.tree.map(jnp.asarray, export.state(directory, values, like))


def checkpoint_state(
    directory: Path,
    family: Family,
    like: TrainState,
    *,
    best: bool = False,
    step: int | None = None,
    before: int | None = None,
    seed: int = 0,
) -> TrainState:
    """The state in a run's checkpoints, on one device.

    Args:
      directory: the run's.
      family: the family.
      like: the shapes of its state.
      best: the checkpoint of the best score instead of the latest.
      step: the checkpoint of this step instead.
      before: only checkpoints of earlier steps; where there is none, the state at the start.
      seed: the run's, for that state.

    Returns:
      The state.

    Raises:
      ConfigError: where there is no checkpoint to use.
      CheckpointError: where it holds another architecture.
    """
    if best and step is not None:
        raise ConfigError("--best and --step name two checkpoints: give one of them")
    checkpoints = Checkpoints(directory / "checkpoints", read_only=True)
    try:
        if step is not None and step not in (known := checkpoints.steps()):
            there = shortened(known[::-1]) or "none"
            raise ConfigError(f"--step {step}: {directory} has checkpoints of the steps {there}")
        if best and (step := checkpoints.best()) is None and checkpoints.steps():
            raise ConfigError(f"no checkpoint in {directory} has a score: leave out --best")
        state = checkpoints.restore(on_one_device(like), step=step, before=before)
    finally:
        checkpoints.close()
    if state is None and before is not None and family.before is None:
        return untrained_state(family, init_key(jax.random.key(seed)))
    if state is None:
        raise ConfigError(
            f"{directory} has no checkpoint to use"
            if step is None
            else f"the checkpoint of step {step} in {directory} cannot be used"
        )
    return state
