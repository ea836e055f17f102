"""jax.jit sorts the keys of a dict that it returns."""

import jax

from benchmarks.probes.finding import Finding

CODE = "genjax/evaluate/average.py"


def probe() -> Finding:
    keys = list(jax.jit(lambda: {"b": 1.0, "a": 2.0})())
    return Finding(f"keys b, a return as {', '.join(keys)}", keys == ["a", "b"])
