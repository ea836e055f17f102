"""An asynchronous Orbax save waits for a directory that is gone, for minutes, before it fails."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.probes.finding import Finding

CODE = "genjax/train/checkpoint.py"
SECONDS = 6.0
SAVE = """
import shutil, sys, numpy as np, orbax.checkpoint as ocp
manager = ocp.CheckpointManager(sys.argv[1])
manager.save(0, args=ocp.args.StandardSave({"x": np.zeros(4)}))
manager.wait_until_finished()
shutil.rmtree(sys.argv[1])
print("saves", flush=True)
manager.save(1, args=ocp.args.StandardSave({"x": np.zeros(4)}))
manager.wait_until_finished()
"""


def probe() -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", SAVE, str(Path(folder) / "run")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            if process.stdout.readline() != "saves\n":
                raise RuntimeError("the first save failed")
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return Finding(f"the save had not ended after {SECONDS:.0f} s", True)
    return Finding(f"the save ended at once with {code}", False)
