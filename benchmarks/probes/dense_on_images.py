"""The weight gradient of nn.Dense on [B, H, W, C] is slower than that of a 1x1 convolution."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.probes.finding import Finding, slowdown
from genjax.models.layers import Projection

CODE = "genjax/models/layers.py"


def probe() -> Finding:
    x = jax.random.normal(jax.random.key(0), (16, 16, 16, 128))

    def step(layer):
        params = layer.init(jax.random.key(1), x)
        gradient = jax.jit(jax.grad(lambda p: jnp.square(layer.apply(p, x)).sum()))
        return lambda: gradient(params)

    ratio = slowdown(step(nn.Dense(384)), step(Projection(384)), rounds=15)
    return Finding(f"nn.Dense takes {ratio:.1f} times as long as a projection", ratio > 1.3)
