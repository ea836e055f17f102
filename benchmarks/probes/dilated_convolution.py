"""XLA on a CPU multiplies by the zeros that a transposed convolution puts between its pixels."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown
from genjax.models import convolution

CODE = "genjax/models/trilinear.py"


def probe() -> Finding:
    x = jax.random.normal(jax.random.key(0), (32, 16, 16, 64))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 64, 32))

    def native(x, kernel):
        return jnp.square(jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")).sum()

    def phases(x, kernel):
        return jnp.square(convolution.conv_transpose(x, kernel, stride=(2, 2))).sum()

    theirs, ours = jax.jit(jax.grad(native, (0, 1))), jax.jit(jax.grad(phases, (0, 1)))
    ratio = slowdown(lambda: theirs(x, kernel), lambda: ours(x, kernel))
    return Finding(f"lax.conv_transpose takes {ratio:.1f} times as long as phases", ratio > 1.1)
