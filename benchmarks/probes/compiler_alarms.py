"""XLA prints alarms at the level of errors, and reads TF_CPP_MIN_LOG_LEVEL when jax is imported."""

import os
import subprocess
import sys

from benchmarks.probes.finding import Finding

CODE = "genjax/cli/restart.py"

SLOW = """
import os, sys
level, late = sys.argv[1:]
if not late:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = level
import jax, numpy as np
os.environ["TF_CPP_MIN_LOG_LEVEL"] = level
x = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
add, window = jax.lax.add, (12, 12)
sums = lambda: jax.lax.reduce_window(jax.numpy.asarray(x), 0.0, add, window, (1, 1), "SAME")
jax.jit(sums).lower().compile()  # folds a constant for seconds
"""


def probe() -> Finding:
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}

    def alarms(level: str, late: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", SLOW, level, late],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr.count("slow_operation_alarm")

    found = alarms("2", ""), alarms("3", "late"), alarms("3", "")
    figure = "alarms at level 2: {}, at 3 set after the import: {}, before it: {}".format(*found)
    return Finding(figure, bool(found[0] and found[1] and not found[2]))
