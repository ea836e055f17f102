"""jaxlib sends convolutions to YNNPACK on a CPU, which is slower in training."""

import os
import subprocess
import sys
from statistics import median

from benchmarks.probes.finding import Finding

CODE = "genjax/cli/startup.py"
OPTION = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
STEP = """
import time, jax, jax.numpy as jnp
x = jax.random.normal(jax.random.key(0), (16, 32, 32, 64))
kernels = [jnp.full((3, 3, 64, 64), 0.01)] * 2
def loss(kernels, x):
    for kernel in kernels:
        x = jnp.tanh(jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return x.sum()
step = jax.jit(jax.grad(loss, (0, 1)))
jax.block_until_ready(step(kernels, x))
times = []
for _ in range(9):
    began = time.perf_counter()
    jax.block_until_ready(step(kernels, x))
    times.append(time.perf_counter() - began)
print(sorted(times)[2])
"""


def _seconds(flags: str) -> float:
    command = [sys.executable, "-c", STEP]
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("this jaxlib does not know the option")
    return float(done.stdout)


def probe() -> Finding:
    ratio = median(_seconds("") / _seconds(OPTION) for _ in range(3))
    return Finding(f"a step takes {ratio:.2f} times as long with YNNPACK", ratio > 1.1)
