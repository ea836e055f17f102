"""XLA on a CPU runs lax's own gradient of a convolution's input many times slower inside a loop."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown
from genjax.models.convolution import conv

CODE = "genjax/models/trilinear.py"


def probe() -> Finding:
    x = jax.random.normal(jax.random.key(0), (16, 28, 28, 16))
    kernel = jnp.full((3, 3, 16, 16), 0.01)

    def native(x):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def scanned(convolve):
        gradient = jax.grad(lambda x: jnp.square(convolve(x)).sum())
        return jax.jit(
            lambda x: jax.lax.scan(lambda x, _: (gradient(x), None), x, None, length=4)[0]
        )

    lax, ours = scanned(native), scanned(lambda x: conv(x, kernel))
    ratio = slowdown(lambda: lax(x), lambda: ours(x), rounds=5)
    return Finding(f"{ratio:.1f} times as long as with a turned kernel", ratio > 2)
