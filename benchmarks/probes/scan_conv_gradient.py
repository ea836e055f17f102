"""XLA on a CPU runs a convolution's weight gradient many times slower inside a loop."""

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown

CODE = "genjax/train/step.py"


def probe() -> Finding:
    x = jax.random.normal(jax.random.key(0), (64, 32, 32, 16))
    kernel = jnp.full((3, 3, 16, 16), 0.01)

    def loss(kernel, x):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.square(y).sum()

    gradient = jax.grad(loss)

    @jax.jit
    def scanned(kernel):
        def step(kernel, _):
            return kernel - 1e-9 * gradient(kernel, x), None

        return jax.lax.scan(step, kernel, None, length=2)[0]

    @jax.jit
    def unrolled(kernel):
        for _ in range(2):
            kernel = kernel - 1e-9 * gradient(kernel, x)
        return kernel

    ratio = slowdown(lambda: scanned(kernel), lambda: unrolled(kernel), rounds=5)
    return Finding(f"{ratio:.1f} times as long in lax.scan", ratio > 2)
