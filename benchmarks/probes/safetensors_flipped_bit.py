"""safetensors loads a file with a flipped bit and reports nothing."""

import numpy as np
from safetensors import numpy as safetensors

from benchmarks.probes.finding import Finding

CODE = "genjax/train/weights.py"


def probe() -> Finding:
    content = bytearray(safetensors.save({"x": np.ones(64, np.float32)}))
    content[-1] ^= 1
    try:
        silent = bool((safetensors.load(bytes(content))["x"] != 1).any())
    except Exception:
        silent = False
    return Finding(f"a flipped bit was {'loaded' if silent else 'noticed'}", silent)
