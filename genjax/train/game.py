"""A family of models is a game: players, each with a loss, an optimizer and its own parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax.train import averages
from genjax.train.state import TrainState, Tree


class Aux(NamedTuple):
    """What a loss returns beside its value.

    Attributes:
      metrics: {name: scalar}, means over the examples the loss was given.
      variables: {player: collections} that replace those in the state (batch statistics, say).
        Floating-point ones are averaged over devices after the update.
    """

    metrics: Mapping[str, jax.Array] = {}
    variables: Mapping[str, Tree] = {}


@dataclass(frozen=True)
class Player:
    """One subtree of the parameters, the loss it lowers, and how.

    Attributes:
      loss: (params, state, keys, batch) -> (scalar, Aux). params is {player: tree} of everybody;
        the step differentiates with respect to the player's own tree. keys is one PRNG key per
        example, [B], each a function of (run key, step, player, global example index) alone, so
        that the noise does not depend on the number of devices. batch is a tree of arrays
        [B, ...].
      optimizer: the optax transformation that updates the player's parameters.
      turns: updates per step, each on its own slice of the batch (a critic's n_critic).
      microbatches: slices whose gradients are averaged into one update (gradient accumulation).
      ema: the moving averages of the parameters. A number d in [0, 1) is the decay of
        `averages.constant`: ema ← d ema + (1 − d) params, with d lowered to (1 + n) / (10 + n) in
        the first steps n. A function step -> d is a decay of another kind, such as
        `averages.power_function(0.1)`. A mapping {name: either} keeps several. None for no average.
      learning_rate: the optimizer's, or its schedule: update -> rate. Only recorded in the
        metrics; None for no record.

    Raises:
      ValueError: where turns or microbatches are less than 1, or a decay lies outside [0, 1).
    """

    loss: Callable[[dict[str, Tree], TrainState, jax.Array, Any], tuple[jax.Array, Aux]]
    optimizer: optax.GradientTransformation
    turns: int = 1
    microbatches: int = 1
    ema: averages.Averages | None = None
    learning_rate: float | optax.Schedule | None = None

    def __post_init__(self) -> None:
        if self.turns < 1 or self.microbatches < 1:
            raise ValueError(
                f"turns and microbatches are at least 1, not {self.turns} and {self.microbatches}"
            )
        if self.ema is not None:
            averages.check(self.ema)


Game = Mapping[str, Player]  # in the order of play: a generator sees the critic already updated


def initial_state(game: Game, params: dict[str, Tree], variables: dict[str, Tree]) -> TrainState:
    """The state before the first step.

    Args:
      game: the players.
      params: {player: parameters}; those without a player stay frozen.
      variables: {player: collections}.

    Returns:
      The state.

    Raises:
      ValueError: where a player has no parameters.
    """
    if missing := [name for name in game if name not in params]:
        raise ValueError(f"no parameters for the players {missing}; there are {sorted(params)}")
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={name: p.optimizer.init(params[name]) for name, p in game.items()},
        variables=variables,
        ema={
            name: averages.start(p.ema, params[name])
            for name, p in game.items()
            if p.ema is not None
        },
    )


def compiled_initial_state(
    game: Game, init: Callable[..., tuple[dict[str, Tree], dict[str, Tree]]]
) -> Callable[..., TrainState]:
    """`initial_state` of what a function draws, as one jitted function.

    Args:
      game: the players.
      init: (…) -> (params, variables).

    Returns:
      A function of init's arguments to the state.
    """
    # One program draws all arrays, and runs once: not worth the compiler's effort.
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(
        lambda *drawn_from: initial_state(game, *init(*drawn_from)), compiler_options=options
    )


def on_host(key: jax.Array) -> jax.Array:
    """A key whose draws are computed on the host's CPU, wherever the process computes.

    A program that draws hundreds of arrays once is not worth a GPU's compiler, which takes several
    times as long over it as the CPU's, and keeps the train steps' compilation waiting.

    Args:
      key: one PRNG key.

    Returns:
      The same key, committed to the CPU; as it was where the process computes there, or has none.
    """
    if jax.default_backend() == "cpu":
        return key
    try:
        return jax.device_put(key, jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names none
        return key
