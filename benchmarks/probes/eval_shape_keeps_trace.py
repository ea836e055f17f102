"""jax.eval_shape of a jitted function keeps its trace for the call that follows."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding

CODE = "genjax/train/layout.py"


def probe() -> Finding:
    traces = 0

    @jax.jit
    def step(x):
        nonlocal traces
        traces += 1
        return 2 * x

    x = jnp.zeros(4)
    jax.eval_shape(step, x)
    step.lower(x).compile()
    step(x)
    return Finding(f"{traces} trace for eval_shape, compile and call", traces == 1)
