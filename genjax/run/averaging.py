"""Which average of the weights a command uses: one that is kept, made afterwards, or of earlier."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from genjax.errors import ConfigError, shortened
from genjax.train.averages import Snapshot, exponent, post_hoc_coefficients
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import on_one_device
from genjax.train.progress import hidden
from genjax.train.state import TrainState, Tree

logger = logging.getLogger(__name__)


def choose(
    state: TrainState, directory: Path, like: TrainState, *, average: str | None, weak: str | None
) -> TrainState:
    """A state whose averages are the chosen ones.

    An average is named as the run keeps it; by a length, the relative standard deviation of a
    power-function average, which is made of those that the checkpoints hold; or either of an
    earlier checkpoint, as NAME@STEP. @STEP is the first that is kept there.

    Args:
      state: of the run.
      directory: the run's.
      like: the shapes of its state.
      average: the average to use; None for the first that is kept.
      weak: of a worse model that guides by autoguidance; None for none.

    Returns:
      The state, whose `averaged()` is the chosen one, and `averaged("weak")` the other.

    Raises:
      ConfigError: where there is no such average or checkpoint.
    """
    if average is None and weak is None:
        return state
    stored = _Stored(directory, like)
    try:
        main = stored.averages(state, average, "--average")
        other = None if weak is None else stored.averages(state, weak, "--weak")
    finally:
        stored.checkpoints.close()
    if other is None:
        return replace(state, ema=main)
    both = {p: OrderedDict(chosen=tree, weak=other[p]) for p, tree in main.items()}
    return replace(state, ema=both)


class _Stored:
    """The checkpoints of a run, to be read one at a time."""

    def __init__(self, directory: Path, like: TrainState):
        self.directory, self.like = directory, like
        self.checkpoints = Checkpoints(directory / "checkpoints", read_only=True)

    def state(self, step: int, flag: str) -> TrainState:
        """The state at a step."""
        if step not in (known := self.checkpoints.steps()):
            there = shortened(known[::-1]) or "none"
            raise ConfigError(f"{flag} @{step}: there are checkpoints of the steps {there}")
        state = self.checkpoints.restore(on_one_device(self.like), step=step)
        if state is None:
            raise ConfigError(f"{flag} @{step}: that checkpoint cannot be used")
        return state

    def averages(self, state: TrainState, wanted: str | None, flag: str) -> dict[str, Tree]:
        """{player: the wanted average} of a state or of an earlier one."""
        name, at, step = (wanted or "").partition("@")
        if at:
            if not step.isdecimal() or len(step) > 10:
                raise ConfigError(f"{flag} {wanted}: write the step's number behind @")
            state = self.state(int(step), flag)
        if not state.ema:
            raise ConfigError(f"{flag} {wanted}: this run keeps no average")
        return {p: self._one(state, p, kept, name, flag) for p, kept in state.ema.items()}

    def _one(self, state: TrainState, player: str, kept: Tree, name: str, flag: str) -> Tree:
        if not name:
            return next(iter(kept.values())) if isinstance(kept, OrderedDict) else kept
        if not isinstance(kept, OrderedDict):
            raise ConfigError(f"{flag} {name}: this run keeps one average; name a step, as @STEP")
        if name in kept:
            return kept[name]
        lengths = {each: float(each) for each in kept if _is_length(each)}
        if not (_is_length(name) and lengths):
            more = ", or a length such as 0.07" if lengths else ""
            raise ConfigError(f"{flag} {name}: this run keeps the averages {', '.join(kept)}{more}")
        return self._made(int(state.step), player, lengths, float(name))

    def _made(self, end: int, player: str, lengths: dict[str, float], wanted: float) -> Tree:
        """The power-function average of a length at a step, of those in checkpoints up to it."""
        steps = [step for step in sorted(self.checkpoints.steps()) if 0 < step <= end]
        snapshots = [Snapshot(step, length, None) for step in steps for length in lengths.values()]
        coefficients = post_hoc_coefficients(snapshots, end, wanted)
        missed = distance(snapshots, coefficients, Snapshot(end, wanted, None))
        logger.info(
            "average of length %g: made of %d of %d checkpoints, its weights %.1f %% off",
            wanted,
            len(snapshots),
            len(steps),
            100 * missed,
        )
        if missed > 0.1:
            logger.warning("more checkpoints make it closer: --run.keep all, --run.every N")
        total: Tree = None
        rows = zip(coefficients.reshape(len(steps), -1), self._each(steps, player), strict=True)
        for row, kept in rows:
            parts = [_scaled(kept[name], c) for name, c in zip(lengths, row, strict=True)]
            for part in parts:
                total = part if total is None else jax.tree.map(np.add, total, part)
        like = self.like.ema[player][next(iter(lengths))]
        return jax.tree.map(lambda x, leaf: jnp.asarray(x, leaf.dtype), total, like)

    def _each(self, steps: Sequence[int], player: str) -> Iterator[Tree]:
        for step in tqdm(steps, desc="averages", unit="checkpoint", disable=hidden()):
            yield self.state(step, "--average").ema[player]


def _scaled(tree: Tree, factor: float) -> Tree:
    return jax.tree.map(lambda x: factor * np.asarray(x, np.float64), tree)


def distance(parts: Sequence[Snapshot], coefficients: np.ndarray, wanted: Snapshot) -> float:
    """How far the weights over the steps of combined averages are from those of another.

    Args:
      parts: the averages; their trees are not used.
      coefficients: of each.
      wanted: the average to come to.

    Returns:
      The L2 norm of the difference as a share of that of the weights wanted.
    """
    places = (np.arange(10_000) + 0.5) / 10_000 * wanted.step

    def profile(snapshot: Snapshot) -> np.ndarray:
        power = exponent(snapshot.relative_std)
        share = np.minimum(places / snapshot.step, 1)
        return np.where(places <= snapshot.step, (power + 1) * share**power / snapshot.step, 0)

    goal = profile(wanted)
    found = sum(c * profile(each) for c, each in zip(coefficients, parts, strict=True))
    return float(np.linalg.norm(found - goal) / np.linalg.norm(goal))


def _is_length(name: str) -> bool:
    try:
        return 0 < float(name) <= 12**-0.5
    except ValueError:
        return False
