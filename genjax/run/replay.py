"""A step that was not finite, run again from the checkpoint before it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from tqdm.auto import tqdm

from genjax.data.images import Images
from genjax.errors import ConfigError, shortened
from genjax.run import history
from genjax.run.nonfinite import recorded_faults
from genjax.run.settings import Settings
from genjax.train.game import Game
from genjax.train.keys import train_key
from genjax.train.layout import DataParallel
from genjax.train.state import TrainState, not_finite


@dataclass(frozen=True)
class Replay:
    """What a step did; printed, some lines.

    Attributes:
      row: of faults.jsonl.
      metrics: {name: value} of the step.
      not_finite: the parameters that are not finite after it.
    """

    row: dict[str, Any]
    metrics: dict[str, float]
    not_finite: list[str]

    def __str__(self) -> str:
        lines = [f"step {self.row['step']:,}, on images {shortened(self.row['images'])}:"]
        lines += [f"  {metric:<40} {value:.6g}" for metric, value in self.metrics.items()]
        bad = shortened(self.not_finite) if self.not_finite else "no parameter"
        return "\n".join([*lines, f"not finite after it: {bad}"])


def recorded_fault(directory: Path, step: int | None) -> dict[str, Any]:
    """A row of faults.jsonl.

    Args:
      directory: the run's.
      step: which; None for the last.

    Returns:
      The row.

    Raises:
      ConfigError: where there is none.
    """
    rows = recorded_faults(directory)
    if not rows:
        raise ConfigError(f"{directory} has no faults.jsonl: no step of it was not finite")
    if step is None:
        return rows[-1]
    for row in reversed(rows):
        if row["step"] == step:
            return row
    known = shortened(sorted({row["step"] for row in rows}))
    raise ConfigError(f"--step {step} is not recorded in {directory}; there are: {known}")


def check_unchanged(values: dict[str, Any], start: int) -> None:
    """Checks that the settings are those of the steps to replay.

    Args:
      values: the contents of the run's config.json.
      start: the step to start from.

    Raises:
      ConfigError: where a setting was changed after it.
    """
    for change in history.changes(values):
        if change["step"] > start and not change["stage"]:  # a stage was over before
            raise ConfigError(
                f"{change['setting']} was changed at step {change['step']:,}, after the checkpoint "
                f"of step {start:,}: the step cannot be run again as it was"
            )


def replay(
    game: Game, state: TrainState, images: Images, settings: Settings, row: dict[str, Any]
) -> Replay:
    """Runs a recorded step again, with a progress bar for the steps before it.

    Args:
      game: the family's.
      state: of a checkpoint before the step.
      images: the train split.
      settings: the run's.
      row: of faults.jsonl.

    Returns:
      What the step did.
    """
    layout = DataParallel(1)
    key = train_key(jax.random.key(settings.seed), row["rollbacks"])
    start, stop = int(state.step), row["step"]
    batches = images.batches(settings.seed, start, settings.batch, scan_steps=1, stop=stop)
    skip = row["answer"] == "skip"
    train_step = layout.compile(game, skip_nonfinite=skip)
    state = layout.place(state)
    for _ in tqdm(range(start, stop - 1), unit="step"):
        state, _ = train_step(state, key, layout.feed(next(batches)))
    last = layout.compile(game) if skip else train_step
    state, metrics = last(state, key, layout.feed(next(batches)))
    values = {name: float(value[0]) for name, value in metrics.items()}
    return Replay(row, values, not_finite(state.params))
