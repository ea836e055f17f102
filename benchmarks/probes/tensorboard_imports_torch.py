"""tensorboardX imports torch where it is installed."""

import importlib.util
import sys
import time

from benchmarks.probes.finding import Finding

CODE = "genjax/train/metrics.py"


def probe() -> Finding:
    if importlib.util.find_spec("torch") is None:
        raise RuntimeError("torch is not installed")
    began = time.perf_counter()
    import tensorboardX  # noqa: F401

    seconds = time.perf_counter() - began
    return Finding(f"{seconds:.1f} s to import tensorboardX", "torch" in sys.modules)
