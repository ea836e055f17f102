"""XLA's CPU code is slow for means over the five-dimensional array of a GroupNorm."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.probes.finding import Finding, slowdown
from genjax.models.normalization import GroupNorm

CODE = "genjax/models/normalization.py"


def probe() -> Finding:
    x = jax.random.normal(jax.random.key(0), (16, 32, 32, 64))

    def step(layer):
        params = layer.init(jax.random.key(1), x)
        gradient = jax.jit(jax.grad(lambda x: jnp.square(layer.apply(params, x)).sum()))
        return lambda: gradient(x)

    ratio = slowdown(step(nn.GroupNorm(8)), step(GroupNorm(8)), rounds=9)
    return Finding(f"linen's GroupNorm takes {ratio:.1f} times as long", ratio > 1.2)
