"""Which PRNG key draws what: every random number of a run comes from one of the keys made here.

run key                          jax.random.key(seed)
  init_key                       the parameters and the first latents of the state
  eval_key                       scores, samples and reconstructions of every evaluation
  train_key                      the train steps; another one after each rollback
    step_key                     one step
      example_keys               one key per example and player
"""

import jax
from jax import Array

from genjax.keys import per_example

# What the run's key is folded with; ROLLED_BACK counts on: 3, 4, … after 1, 2, … rollbacks.
INIT, TRAIN, EVAL, ROLLED_BACK = 0, 1, 2, 3


def init_key(run_key: Array) -> Array:
    """The key that draws the initial state.

    Args:
      run_key: the run's, `jax.random.key(seed)`.

    Returns:
      One key.
    """
    return jax.random.fold_in(run_key, INIT)


def eval_key(run_key: Array) -> Array:
    """The key of every evaluation: always the same, so that scores differ by the weights alone.

    Args:
      run_key: the run's, `jax.random.key(seed)`.

    Returns:
      One key.
    """
    return jax.random.fold_in(run_key, EVAL)


def train_key(run_key: Array, rollbacks: int = 0) -> Array:
    """The key of the train steps: another one after each rollback.

    The same noise would meet the same non-finite step again.

    Args:
      run_key: the run's, `jax.random.key(seed)`.
      rollbacks: how often the run has gone back to a checkpoint.

    Returns:
      One key.
    """
    return jax.random.fold_in(run_key, ROLLED_BACK + rollbacks - 1 if rollbacks else TRAIN)


def step_key(train_key: Array, step: int | Array) -> Array:
    """The key of one train step.

    Args:
      train_key: that of the train steps.
      step: completed steps, counted from 0.

    Returns:
      One key.
    """
    return jax.random.fold_in(train_key, step)


def example_keys(step_key: Array, player: int, size: int, axis: str | None) -> Array:
    """One key per example, a function of (step key, player, global example index) alone.

    Args:
      step_key: the step's.
      player: place of the player in the order of play.
      size: examples in the batch at hand, which with an axis is this device's share.
      axis: name of the mapped axis that splits the batch; None where the batch is complete.

    Returns:
      Keys, [size].
    """
    first = 0 if axis is None else jax.lax.axis_index(axis) * size
    return per_example(jax.random.fold_in(step_key, player), size, first)
