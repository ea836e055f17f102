"""An Orbax save into a folder that cannot be created leaves a thread that waits, for minutes."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.probes.finding import Finding

CODE = "genjax/train/checkpoint.py"
SECONDS = 10.0
SAVE = """
import pathlib, shutil, sys, numpy as np, orbax.checkpoint as ocp
folder, replaced = pathlib.Path(sys.argv[1]), sys.argv[2] == "replaced"
folder.mkdir()
manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False))
manager.save(0, args=ocp.args.StandardSave({"x": np.zeros(4)}))
manager.wait_until_finished()
shutil.rmtree(folder)
if replaced:
    folder.write_text("")
print("saves", flush=True)
manager.save(1, args=ocp.args.StandardSave({"x": np.zeros(4)}))
manager.wait_until_finished()
"""


def _waits(folder: Path, how: str) -> bool:
    with subprocess.Popen(
        [sys.executable, "-c", SAVE, str(folder / how), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "saves\n":
            raise RuntimeError("the first save failed")
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def probe() -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        waits = [how for how in ("removed", "replaced") if _waits(Path(folder), how)]
    where = f"not within {SECONDS:.0f} s where the folder is {' or '.join(waits)}"
    return Finding(f"the process ends {where if waits else 'at once'}", bool(waits))
