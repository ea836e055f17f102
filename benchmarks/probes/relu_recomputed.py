"""XLA computes maximum(x, 0) again inside every transpose that a kernel's gradient needs."""

from itertools import pairwise

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding, slowdown
from genjax.models import layers

CODE = "genjax/models/layers.py"


def probe() -> Finding:
    x = jax.random.normal(jax.random.key(0), (64, 64, 64, 3))
    widths = (3, 32, 64, 128)
    kernels = [
        0.05 * jax.random.normal(jax.random.key(i), (4, 4, a, b))
        for i, (a, b) in enumerate(pairwise(widths))
    ]

    def step(rectify):
        def loss(kernels):
            y = x
            for kernel in kernels:
                y = rectify(
                    jax.lax.conv_general_dilated(
                        y, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                    )
                    + 0.1
                )
            return jnp.square(y).sum()

        return jax.jit(jax.grad(loss))

    maximum, selection = step(lambda x: jnp.maximum(x, 0)), step(layers.relu)
    ratio = slowdown(lambda: maximum(kernels), lambda: selection(kernels), rounds=9)
    return Finding(f"a step takes {ratio:.2f} times as long with a maximum", ratio > 1.03)
