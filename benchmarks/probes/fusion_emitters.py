"""The older code generator of XLA's CPU compiler compiles faster; jaxlib 0.11 lacks it."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.probes.finding import Finding

CODE = "tests/conftest.py"
OPTION = "xla_cpu_use_fusion_emitters"


def probe() -> Finding:
    def loss(x, n):
        noise = jax.random.normal(jax.random.key(0), x.shape)
        return (jax.nn.gelu(jnp.tanh(x) + noise) ** n / jnp.cosh(x)).sum() + jnp.log1p(x**2).max()

    def seconds(options: dict[str, Any]) -> float:
        jax.clear_caches()
        total = 0.0
        for n in range(2, 12):  # many small programs, as of tests
            lowered = jax.jit(jax.grad(lambda x, n=n: loss(x, n))).lower(jnp.ones((n, 16)))
            began = time.perf_counter()
            lowered.compile(compiler_options={"xla_backend_optimization_level": 0, **options})
            total += time.perf_counter() - began
        return total

    seconds({})  # what the first compilation alone does
    try:
        older = seconds({OPTION: False})
    except jax.errors.JaxRuntimeError:
        return Finding("this version has no other code generator", False)
    ratio = older / seconds({})
    return Finding(f"compiling took {ratio:.2f} of the time with the older one", ratio < 0.9)
