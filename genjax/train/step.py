"""The one train step of every family: each player takes its turns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genjax.train import averages
from genjax.train import keys as key_of
from genjax.train.game import Game, Player
from genjax.train.state import TrainState, Tree

StepMetrics = dict[str, jax.Array]  # "player/name": scalar
Step = Callable[[TrainState, jax.Array, Any], tuple[TrainState, StepMetrics]]


def make_step(game: Game, axis: str | None, *, skip_nonfinite: bool = False) -> Step:
    """The train step of a game: one turn of every player, in order of play.

    The step's metrics are means over the complete batch: what each loss reports, its value as
    "loss", and its gradient's norm as "grad_norm". "learning_rate" is that of the first of the
    player's turns, as if no update had been skipped.

    Args:
      game: the players.
      axis: name of the mapped axis that splits the batch; None where the step sees all of it.
      skip_nonfinite: whether an update of which any metric is not finite leaves the state as it
        was; the share of such updates is then the metric "skipped".

    Returns:
      step(state, key, batch) -> (state, metrics). key is that of the train steps; batch is a tree
      of arrays [B, ...], with an axis this device's contiguous share of the batch.
    """

    def step(state: TrainState, key: jax.Array, batch: Any) -> tuple[TrainState, StepMetrics]:
        all_metrics: StepMetrics = {}
        size = jax.tree.leaves(batch)[0].shape[0]
        for number, (name, player) in enumerate(game.items()):
            keys = key_of.example_keys(key_of.step_key(key, state.step), number, size, axis)
            turns = _slices((keys, batch), player.turns, name)

            def turn(
                state: TrainState, keys_and_batch: Any, name: str = name, player: Player = player
            ) -> tuple[TrainState, StepMetrics]:
                keys, batch = keys_and_batch
                updated, metrics = _update(name, player, state, keys, batch, axis)
                if skip_nonfinite:
                    return _unless_nonfinite(updated, state, metrics)
                return updated, metrics

            state, metrics = _scan(turn, state, turns, player.turns)
            all_metrics |= {f"{name}/{k}": jnp.mean(v, axis=0) for k, v in metrics.items()}
            if player.learning_rate is not None:
                rate = player.learning_rate
                rate = rate(state.step * player.turns) if callable(rate) else rate
                all_metrics[f"{name}/learning_rate"] = jnp.asarray(rate, jnp.float32)
        return replace(state, step=state.step + 1), all_metrics

    return step


def _slices(tree: Any, count: int, name: str) -> Any:
    """[B, ...] -> [count, B / count, ...], slice j the examples j, j + count, …

    Strided slices hold the same examples however many devices share the batch, and cost no
    communication under jit.
    """
    size = jax.tree.leaves(tree)[0].shape[0]
    if size % count:
        raise ValueError(f"player {name!r} cuts a batch of {size} per device into {count} slices")
    return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), tree)


def _scan(body: Callable, carry: Any, xs: Any, length: int) -> tuple[Any, Any]:
    """lax.scan, but a single pass is inlined: XLA fuses across it."""
    if length > 1:
        # XLA runs a convolution's gradients some 25 times slower inside a loop on a CPU.
        return jax.lax.scan(body, carry, xs, unroll=jax.default_backend() == "cpu")
    carry, y = body(carry, jax.tree.map(lambda x: x[0], xs))
    return carry, jax.tree.map(lambda v: v[None], y)


def _update(
    name: str, player: Player, state: TrainState, keys: jax.Array, batch: Any, axis: str | None
) -> tuple[TrainState, StepMetrics]:
    def loss(own: Tree, state: TrainState, keys: jax.Array, batch: Any) -> Any:
        return player.loss({**state.params, name: own}, state, keys, batch)

    def microbatch(carry: Any, keys_and_batch: Any) -> tuple[Any, StepMetrics]:
        state, total = carry
        own = state.params[name]
        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(own, state, *keys_and_batch)
        state = replace(state, variables={**state.variables, **aux.variables})
        return (state, jax.tree.map(jnp.add, total, grads)), {"loss": value, **aux.metrics}

    count = player.microbatches
    zeros = jax.tree.map(jnp.zeros_like, state.params[name])
    (state, grads), metrics = _scan(
        microbatch, (state, zeros), _slices((keys, batch), count, name), count
    )
    grads = jax.tree.map(lambda g: g / count, grads)
    metrics = {k: jnp.mean(v, axis=0) for k, v in metrics.items()}
    if axis is not None:
        grads, metrics = jax.lax.pmean((grads, metrics), axis)
        state = replace(state, variables=_mean_floats(state.variables, axis))
    metrics["grad_norm"] = optax.tree.norm(grads)

    updates, opt_state = player.optimizer.update(grads, state.opt_state[name], state.params[name])
    params = optax.apply_updates(state.params[name], updates)
    state = replace(
        state, params={**state.params, name: params}, opt_state={**state.opt_state, name: opt_state}
    )
    if player.ema is not None:
        average = averages.update(player.ema, state.ema[name], params, state.step)
        state = replace(state, ema={**state.ema, name: average})
    return state, metrics


def _unless_nonfinite(
    updated: TrainState, before: TrainState, metrics: StepMetrics
) -> tuple[TrainState, StepMetrics]:
    # optax.apply_if_finite would let batch statistics and averages through, and its counters in the
    # optimizer's state would keep a run that has met a NaN from resuming with this on.
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(value)) for value in metrics.values()]))
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, before)
    return state, {**metrics, "skipped": 1.0 - finite}


def _mean_floats(tree: Tree, axis: str) -> Tree:
    """Statistics a loss did not synchronise itself must still end equal on every device."""
    return jax.tree.map(
        lambda x: jax.lax.pmean(x, axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree
    )
