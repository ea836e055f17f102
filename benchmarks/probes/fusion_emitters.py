"""The older code generator of XLA's CPU compiler compiles faster; jaxlib 0.11 lacks it."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding

CODE = "tests/conftest.py"
OPTION = "xla_cpu_use_fusion_emitters"


def probe() -> Finding:
    @jax.grad
    def program(x):
        for _ in range(12):
            x = jax.nn.softmax(jax.nn.gelu(x) @ x) - jax.nn.logsumexp(x.T)
        return x.sum()

    def seconds(options: dict[str, Any]) -> float:
        jax.clear_caches()
        lowered = jax.jit(program).lower(jnp.ones((16, 16)))
        began = time.perf_counter()
        lowered.compile(compiler_options={"xla_backend_optimization_level": 0, **options})
        return time.perf_counter() - began

    seconds({})  # what the first compilation alone does
    try:
        older = seconds({OPTION: False})
    except jax.errors.JaxRuntimeError:
        return Finding("this version has no other code generator", False)
    ratio = older / seconds({})
    return Finding(f"compiling took {ratio:.2f} of the time with the older one", ratio < 0.9)
