"""multihost_utils.broadcast_one_to_all adds zeros, which turns −0 into 0."""

import socket
import subprocess
import sys

from benchmarks.probes.finding import Finding

CODE = "genjax/train/processes.py"
PEER = """
import sys, jax, numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jax.experimental import multihost_utils
sent = multihost_utils.broadcast_one_to_all(np.array([-0.0], np.float32))
print(bool(np.signbit(np.asarray(sent)[0])), flush=True)
jax.distributed.shutdown()
"""


def probe() -> Finding:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    peers = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, address, str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for i in range(2)
    ]
    # Gloo prints lines of its own.
    signs = [(peer.communicate(timeout=60)[0].split() or [""])[-1] for peer in peers]
    if not set(signs) <= {"True", "False"}:
        raise RuntimeError("the processes did not meet")
    preserved = signs.count("True")
    return Finding(f"the sign of −0 arrived in {preserved} of 2 processes", preserved < 2)
