"""TrainState: every array that must survive a restart, and nothing else."""

from typing import Any

import flax.struct
import jax

Tree = Any  # a pytree of arrays


@flax.struct.dataclass
class TrainState:
    """The state of a game, split by player.

    step: int32 [], completed train steps.
    params: {player: parameters}; a player's own subtree, or a frozen one that has no player.
    opt_state: {player: optax state}.
    variables: {player: linen collections other than params, e.g. batch_stats}.
    ema: {player: exponential moving average of its parameters}, for players that ask for one.
    """

    step: jax.Array
    params: dict[str, Tree]
    opt_state: dict[str, Tree]
    variables: dict[str, Tree]
    ema: dict[str, Tree]

    def averaged(self) -> dict[str, Tree]:
        """The parameters to sample with: a player's moving average where it keeps one."""
        return {**self.params, **self.ema}
