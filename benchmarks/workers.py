"""Starts worker processes alike and sends them requests one at a time."""

import dataclasses
import json
import math
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Contender

ROOT = Path(__file__).parent.parent


class WorkerError(Exception):
    """A worker failed at a request; the message is one line."""


@dataclass(frozen=True)
class Machine:
    """The settings that all workers share.

    Attributes:
      cores: the cores that this process and its workers are pinned to.
      gpu: whether the libraries use a GPU.
      caches: folder of the compilers' persistent caches.
      bfloat16: whether networks compute in bfloat16.
    """

    cores: tuple[int, ...]
    gpu: bool
    caches: Path
    bfloat16: bool = False

    def environment(self) -> dict[str, str]:
        threads = str(len(self.cores))
        fixed = {
            "PJRT_NPROC": threads,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "HF_HUB_OFFLINE": "1",
            # Programs compiled by another version must not be found.
            "JAX_COMPILATION_CACHE_DIR": str(self.caches / "xla"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.caches / "inductor"),
        }
        if not self.gpu:
            fixed |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        return {**os.environ, **fixed}


def once(
    machine: Machine, module: str, *arguments: str, seconds: float | None = None
) -> dict[str, Any]:
    """Returns what `python -m benchmarks.MODULE` prints as JSON.

    Raises:
      WorkerError: where it fails, or takes more than `seconds`.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", *arguments]
    environment = machine.environment() | {"BENCHMARK_BEGAN": repr(time.time())}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{module} {' '.join(arguments)}: over {seconds:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise WorkerError(f"{module} {' '.join(arguments)}: {last[:300]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class WorkerProcess:
    """A running worker."""

    def __init__(self, machine: Machine, case: Case, contender: Contender):
        self.contender = contender
        given = {
            "case": case.name,
            "contender": dataclasses.asdict(contender),
            "bfloat16": machine.bfloat16,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=machine.environment(),
        )

    def ask(self, do: str, seconds: float = math.inf, **arguments: Any) -> dict[str, Any]:
        """Sends a request and returns the reply.

        Raises:
          WorkerError: where the worker reports an error, has died, or takes more than `seconds`.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            if seconds < math.inf and not select.select([self.process.stdout], [], [], seconds)[0]:
                self.process.kill()
                raise WorkerError(f"no reply to {do!r} within {seconds:.0f} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"died with exit status {self.process.wait()} at {do!r}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
