"""The weights that a run starts from, where they are those of another run or of an export."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import files
from genjax.errors import ConfigError
from genjax.run import export, history
from genjax.run.config import load
from genjax.run.family import Family, stages, state_shapes
from genjax.run.settings import Settings
from genjax.train import digests, weights
from genjax.train.checkpoint import Checkpoints
from genjax.train.game import initial_state
from genjax.train.state import TrainState, Tree

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FirstWeights:
    """What was read from another run or from an export.

    Attributes:
      record: for config.json: {"directory", "experiment", "step", "sha256", "export"}.
      arrays: {name: array}: "params.PLAYER. …", and the same of variables and averages, "ema".
    """

    record: dict[str, Any]
    arrays: Mapping[str, np.ndarray]

    def check(self, family: Family) -> None:
        """Checks that the weights of the players that are there fit, and logs what is taken.

        Args:
          family: to be trained.

        Raises:
          ConfigError: where an array differs.
        """
        where, like = self.record["directory"], state_shapes(family)
        taken = self._taken(family)
        for player in taken:
            for part, trees in (("params", like.params), ("variables", like.variables)):
                if different := self._different(part, player, trees.get(player, {})):
                    raise ConfigError(
                        f"--run.init-from {where} holds another architecture: {different}"
                    )
        if taken:
            step = f"{self.record['step']:,}"
            logger.info("%s: weights of step %s of %s", ", ".join(taken), step, where)
        if missing := [player for player in family.game if player not in taken]:
            more = " or made of what was trained before" if family.before else ""
            names = ", ".join(missing)
            logger.warning("%s: not in %s, drawn by the seed%s", names, where, more)

    def put_into(self, family: Family, state: TrainState) -> TrainState:
        """A state before the first step, with these weights.

        Args:
          family: to be trained.
          state: as `family.first_state` draws it.

        Returns:
          The same state but for the players that are there: their parameters and variables, the
          averages that are there too (others start as the parameters), and the optimizer's state
          at its start.
        """
        taken = self._taken(family)
        params = {**state.params, **{p: self._tree("params", p, state.params[p]) for p in taken}}
        variables = {
            player: self._tree("variables", player, tree) if player in taken else tree
            for player, tree in state.variables.items()
        }
        begun = initial_state(family.game, params, variables)
        ema = {
            player: tree
            if player not in taken or self._different("ema", player, tree)
            else self._tree("ema", player, tree)
            for player, tree in begun.ema.items()
        }
        return replace(begun, ema=ema)

    def _taken(self, family: Family) -> list[str]:
        return [player for player in family.game if self._part("params", player)]

    def _part(self, part: str, player: str) -> dict[str, np.ndarray]:
        start = f"{part}.{player}."
        return {name: array for name, array in self.arrays.items() if name.startswith(start)}

    def _different(self, part: str, player: str, tree: Tree) -> str | None:
        return weights.first_difference(
            self._part(part, player), weights.named({part: {player: tree}})
        )

    def _tree(self, part: str, player: str, like: Tree) -> Tree:
        names = weights.named({part: {player: like}})
        return jax.tree.unflatten(jax.tree.structure(like), [self.arrays[name] for name in names])


def first_weights(family: Family, directory: Path, settings: Settings) -> FirstWeights | None:
    """The weights to start with, where a run is to start with those of another.

    Args:
      family: to be trained, after those it builds upon.
      directory: the run's.
      settings: the run's.

    Returns:
      The weights, seen to fit each stage that has no checkpoint; None where none is asked for, or
      every stage has one.

    Raises:
      ConfigError: where they cannot be read, or do not fit.
    """
    given = settings.init_from
    if given is None and not settings.fresh and (directory / "config.json").exists():
        given = history.recorded_path(load(directory / "config.json"))
    if given is None:
        return None
    all_stages = list(stages(family, directory))
    waiting: list[Family] = []
    begun = False
    for stage, place in reversed(all_stages):
        begun |= bool(digests.steps(place / "checkpoints"))
        # A stage of no steps has no checkpoint: what builds upon it keeps what it needs of it.
        done = begun if stage.steps == 0 else bool(digests.steps(place / "checkpoints"))
        if settings.fresh or not done:
            waiting.insert(0, stage)
    if not waiting:
        return None
    found = _read(files.user_path(given))
    players = [player for stage, _ in all_stages for player in stage.game]
    there = {name.split(".")[1] for name in found.arrays if name.startswith("params.")}
    if not there & set(players):
        raise ConfigError(
            f"--run.init-from {found.record['directory']} has weights of "
            f"{', '.join(sorted(there)) or 'nobody'}, none of {', '.join(players)}"
        )
    for stage in waiting:
        found.check(stage)
    if found.record["export"]:
        logger.info("an export holds averages alone: training goes on from these")
    return found


def _read(directory: Path) -> FirstWeights:
    if export.is_export(directory):
        values, tree = export.load_weights(directory)
        about = values["export"]
        return FirstWeights(
            _record(directory, values, about.get("step"), about["sha256"], True),
            weights.named(tree),
        )
    checkpoints = Checkpoints(directory / "checkpoints", read_only=True)
    try:
        step = checkpoints.newest_step()
        if not step:
            raise ConfigError(
                f"--run.init-from {directory} is no run with a checkpoint to use, and no export"
            )
        arrays = checkpoints.arrays(step)
    finally:
        checkpoints.close()
    values = load(directory / "config.json") if (directory / "config.json").exists() else {}
    digest = digests.sha256(directory / "checkpoints" / str(step) / digests.NAME)
    kept = {name: x for name, x in arrays.items() if not name.startswith("opt_state.")}
    return FirstWeights(_record(directory, values, step, digest, False), kept)


def _record(
    directory: Path, values: dict[str, Any], step: Any, digest: str, exported: bool
) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "experiment": str(values.get("experiment", "")),
        "step": step if files.is_count(step) else 0,
        "sha256": digest,
        "export": exported,
    }
