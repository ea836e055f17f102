"""The machine's matrix-multiply rate, by one library: python -m benchmarks.peak torch float32.

On a GPU with genjax's bandwidth of copies as well: python -m benchmarks.peak genjax bfloat16 gpu.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.worker import prepare

SIZE, TRIES, SECONDS = 2048, 5, 1.0
# A GPU needs larger matrices, calls that wait in line, and copies that no cache holds.
GPU_SIZE, IN_LINE, COPIED = 8192, 10, 1 << 30


def main() -> None:
    library, kind, on_gpu = sys.argv[1], sys.argv[2], "gpu" in sys.argv[3:]
    prepare(library)
    size, in_line = (GPU_SIZE, IN_LINE) if on_gpu else (SIZE, 1)
    multiply, wait = (_jax if library == "genjax" else _torch)(kind, size)
    found = {"flops": 2 * size**3 * _rate(multiply, wait, in_line)}
    if on_gpu and library == "genjax":
        copy, wait = _jax_copy(COPIED)
        found["copied_bytes"] = 2 * COPIED * _rate(copy, wait, in_line)  # read and written
    print(json.dumps(found))


def _rate(run: Callable, wait: Callable, in_line: int) -> float:
    """The most calls per second of a few tries."""
    wait(run())
    best = 0.0
    for _ in range(TRIES):
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS / TRIES:
            wait([run() for _ in range(in_line)])
            count += in_line
        best = max(best, count / (time.perf_counter() - began))
    return best


def _random(*shape: int) -> np.ndarray:
    # Products of equal numbers take less power, so that a GPU does more of them.
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _jax(kind: str, size: int) -> tuple[Callable, Callable]:
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(_random(size, size), kind)
    return partial(jax.jit(jnp.matmul), a, a), jax.block_until_ready


def _jax_copy(count: int) -> tuple[Callable, Callable]:
    import jax
    import jax.numpy as jnp

    a = jnp.zeros(count // 4, jnp.uint32)
    # The identity alone would be no program.
    return partial(jax.jit(lambda x: x ^ jnp.uint32(1)), a), jax.block_until_ready


def _torch(kind: str, size: int) -> tuple[Callable, Callable]:
    import torch

    from benchmarks.torch_training import device, synchronise

    a = torch.from_numpy(_random(size, size)).to(device(), getattr(torch, kind))
    return lambda: torch.matmul(a, a), lambda _: synchronise()


if __name__ == "__main__":
    main()
