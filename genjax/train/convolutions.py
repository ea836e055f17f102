"""Whether a game convolves, which decides how its steps are best compiled on a CPU."""

from collections.abc import Iterator
from typing import Any

import jax

from genjax.train.game import Game
from genjax.train.state import TrainState


def convolves(game: Game, state: TrainState, batch: Any) -> bool:
    """Whether any player's loss has a convolution in its jaxpr.

    Args:
      game: the players.
      state: the state, or the shapes and types of its arrays.
      batch: a batch [B, ...] of some B, or the shapes and types of its arrays.

    Returns:
      True where XLA will meet a convolution.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    for player in game.values():
        loss = jax.make_jaxpr(player.loss)(state.params, state, keys, batch)
        if any(name == "conv_general_dilated" for name in _primitives(loss.jaxpr)):
            return True
    return False


def _primitives(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "jaxpr"):
                inner = inner.jaxpr
            if hasattr(inner, "eqns"):
                yield from _primitives(inner)
