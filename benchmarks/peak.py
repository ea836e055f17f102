"""The machine's float32 matrix-multiply rate, by one library: python -m benchmarks.peak torch."""

import json
import sys
import time
from collections.abc import Callable

from benchmarks.worker import prepare

SIZE, TRIES, SECONDS = 2048, 5, 1.0


def main() -> None:
    library, kind = sys.argv[1], sys.argv[2]
    prepare(library)
    multiply, wait = (_jax if library == "genjax" else _torch)(kind)
    wait(multiply())
    best = 0.0
    for _ in range(TRIES):
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS / TRIES:
            wait(multiply())
            count += 1
        best = max(best, count * 2 * SIZE**3 / (time.perf_counter() - began))
    print(json.dumps({"flops": best}))


def _jax(kind: str) -> tuple[Callable, Callable]:
    import jax
    import jax.numpy as jnp

    a = jnp.full((SIZE, SIZE), 0.5, kind)
    product = jax.jit(jnp.matmul)
    return lambda: product(a, a), jax.block_until_ready


def _torch(kind: str) -> tuple[Callable, Callable]:
    import torch

    from benchmarks.torch_training import device, synchronise

    a = torch.full((SIZE, SIZE), 0.5, dtype=getattr(torch, kind), device=device())
    return lambda: torch.matmul(a, a), lambda _: synchronise()


if __name__ == "__main__":
    main()
