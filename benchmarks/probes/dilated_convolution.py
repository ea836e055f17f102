"""XLA on a CPU multiplies by the zeros that a transposed convolution puts between its pixels."""

import jax

from benchmarks.probes.finding import Finding, slowdown
from genjax.models import convolution

CODE = "genjax/models/trilinear.py"


def probe() -> Finding:
    y = jax.random.normal(jax.random.key(0), (32, 16, 16, 64))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 64, 32))
    native = jax.jit(lambda y: jax.lax.conv_transpose(y, kernel, (2, 2), "SAME"))
    phases = jax.jit(lambda y: convolution.conv_transpose(y, kernel, stride=(2, 2)))
    ratio = slowdown(lambda: native(y), lambda: phases(y))
    return Finding(f"lax.conv_transpose takes {ratio:.1f} times as long as phases", ratio > 1.2)
