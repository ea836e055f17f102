"""jax.nn's attention on a CPU costs more in its gradient than dividing by the sum last."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown
from genjax.models.attention import attend

CODE = "genjax/models/attention.py"


def probe() -> Finding:
    q, k, v = (jax.random.normal(jax.random.key(i), (16, 256, 2, 64)) for i in range(3))

    def step(attention):
        gradient = jax.grad(lambda q, k, v: jnp.square(attention(q, k, v)).sum(), (0, 1, 2))
        return jax.jit(gradient)

    theirs, ours = step(jax.nn.dot_product_attention), step(attend)
    ratio = slowdown(lambda: theirs(q, k, v), lambda: ours(q, k, v), rounds=9)
    return Finding(f"jax.nn.dot_product_attention takes {ratio:.2f} times as long", ratio > 1.05)
