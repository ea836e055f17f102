"""Importing grain takes a good part of a second."""

import time

from benchmarks.probes.finding import Finding

CODE = "genjax/data/prefetch.py"


def probe() -> Finding:
    import numpy  # noqa: F401

    began = time.perf_counter()
    import grain  # noqa: F401

    seconds = time.perf_counter() - began
    return Finding(f"{seconds:.2f} s to import grain", seconds > 0.15)
