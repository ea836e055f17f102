"""Orbax restores a checkpoint with a flipped byte and reports nothing."""

import tempfile
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from benchmarks.probes.finding import Finding

CODE = "genjax/train/digests.py"
TRIES = 16


def probe() -> Finding:
    tree = {"x": np.random.default_rng(0).standard_normal(4096).astype(np.float32)}
    silent = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        checkpointer = ocp.StandardCheckpointer()
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()
        largest = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = largest.read_bytes()
        for place in range(0, len(content), len(content) // TRIES):
            flipped = bytearray(content)
            flipped[place] ^= 1
            largest.write_bytes(flipped)
            try:
                found = ocp.StandardCheckpointer().restore(path, tree)
            except Exception:
                continue
            silent += found["x"].tobytes() != tree["x"].tobytes()
    return Finding(f"{silent} of {TRIES} flipped bytes changed the arrays unnoticed", silent > 0)
