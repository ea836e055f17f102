"""TrainState: every array that must survive a restart, and nothing else."""

from collections import OrderedDict
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Tree = Any  # a pytree of arrays


@flax.struct.dataclass
class TrainState:
    """The state of a game, split by player.

    Attributes:
      step: int32 [], completed train steps.
      params: {player: parameters}; a player's own subtree, or a frozen one that has no player.
      opt_state: {player: optax state}.
      variables: {player: linen collections other than params, e.g. batch_stats}.
      ema: {player: moving average of its parameters}, for players that ask for one; for those that
        name several, {player: OrderedDict of averages by name}.
    """

    step: jax.Array
    params: dict[str, Tree]
    opt_state: dict[str, Tree]
    variables: dict[str, Tree]
    ema: dict[str, Tree]

    def averaged(self, name: str | None = None) -> dict[str, Tree]:
        """The parameters to sample with: a player's moving average where it keeps one.

        Args:
          name: which average of the players that keep several; None for the first named.

        Returns:
          {player: parameters}.

        Raises:
          ValueError: where a player keeps several averages, but none of that name.
        """
        return {**self.params, **{p: _chosen(tree, p, name) for p, tree in self.ema.items()}}


def _chosen(average: Tree, player: str, name: str | None) -> Tree:
    if not isinstance(average, OrderedDict):
        return average
    if name is None:
        return next(iter(average.values()))
    if name not in average:
        raise ValueError(f"{player!r} keeps no average {name!r}; there are {', '.join(average)}")
    return average[name]


def not_finite(tree: Tree) -> list[str]:
    """The names of arrays that hold a NaN or an infinity.

    Args:
      tree: arrays.

    Returns:
      Their paths with dots, such as "generator.Dense_0.kernel".
    """
    return [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(np.isfinite(np.asarray(leaf)))
    ]
