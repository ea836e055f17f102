"""Penalties of an adversarial game: on a critic's slope and consistency, on a generator's path."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Critic = Callable[[Array], Array]  # [B, ...] -> [B]


def _slopes(discriminate: Critic, x: Array) -> Array:
    """The gradient of critic output i with respect to example i, as [B, D] in float32 at least."""
    outputs, pull_back = jax.vjp(discriminate, x)
    if outputs.shape != x.shape[:1]:
        raise ValueError(
            f"the critic must give one number per example, got {outputs.shape} for x {x.shape}: "
            "squeeze its output to [B]"
        )
    (slopes,) = pull_back(jnp.ones_like(outputs))
    slopes = slopes.astype(jnp.promote_types(slopes.dtype, jnp.float32))
    return slopes.reshape(len(x), -1)


def r1(discriminate: Critic, real: Array) -> Array:
    """The squared slope of the critic at real examples, ‖∇D(x)‖², per example.

    The paper's regulariser is γ/2 times this; no factor is applied here.

    Args: `discriminate`, [B, ...] -> [B], raw outputs; `real` [B, ...].
    Returns: [B], summed over all elements of an example.
    Assumes that critic output i depends on example i alone. Where examples are coupled (batch
    statistics), the slope is that of the outputs' sum over the batch.
    Raises ValueError if the critic's output is not [B].
    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), eq. 9.
    """
    return jnp.square(_slopes(discriminate, real)).sum(-1)
