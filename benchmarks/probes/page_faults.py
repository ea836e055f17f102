"""XLA maps a step's temporary arrays anew each time; glibc's huge pages end the page faults."""

import os
import subprocess
import sys

from benchmarks.probes.finding import Finding

CODE = "genjax/cli/restart.py"
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:"
    "glibc.malloc.trim_threshold=1073741824"
)
STEP = """
import resource, jax, jax.numpy as jnp
x = jnp.ones((64, 64, 64, 3))
kernels = [jnp.full((4, 4, 3, 32), 0.01), jnp.full((4, 4, 32, 64), 0.01)]
def loss(kernels, x):
    for kernel in kernels:
        x = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jnp.tanh(x)
    return x.sum()
step = jax.jit(jax.grad(loss))
for _ in range(3):
    jax.block_until_ready(step(kernels, x))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    jax.block_until_ready(step(kernels, x))
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


def _faults(tunables: str) -> int:
    environment = os.environ | {"GLIBC_TUNABLES": tunables}
    command = [sys.executable, "-c", STEP]
    return int(subprocess.check_output(command, env=environment, stderr=subprocess.DEVNULL))


def probe() -> Finding:
    without, tuned = _faults(""), _faults(TUNABLES)
    return Finding(
        f"{without:,} page faults per step, {tuned:,} with tunables", without > 2 * tuned
    )
