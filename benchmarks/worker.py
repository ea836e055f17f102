"""One contender of one case, in its own process, which works only on request."""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import memory
from benchmarks.cases import CASES, Contender
from benchmarks.gpu_cases import GPU_CASES
from genjax.cli import restart, startup


class Worker:
    """Replies to requests, {"do": name of a method, other arguments}, with a dict each."""

    def __init__(self, case: str, contender: Contender, *, bfloat16: bool):
        self.case = next(c for c in (*CASES, *GPU_CASES) if c.name == case)
        self.contender, self.bfloat16 = contender, bfloat16

    def build(self) -> dict[str, Any]:
        """Imports, builds, takes the first step."""
        began = time.monotonic()
        kind = self.case.kind
        prepare(self.contender.library)
        prefix = (
            "" if kind == "feeding" else {"genjax": "jax_"}.get(self.contender.library, "torch_")
        )
        module = importlib.import_module(f"benchmarks.{prefix}{kind}")
        imported = time.monotonic()
        self.baseline = memory.resident()
        self.subject = getattr(module, kind.title())(
            self.case, self.contender, bfloat16=self.bfloat16
        )
        built = time.monotonic()
        self.subject.run(1)
        return {
            "parameters": self.subject.parameters,
            "import": imported - began,
            "init": self.subject.init_seconds,
            "first": time.monotonic() - built,
            "set_up_mib": memory.peak() - self.baseline,
        }

    def watch(self) -> dict[str, Any]:
        memory.forget_peak()
        return {}

    def rest(self) -> dict[str, Any]:
        """Frees memory of the GPU that is not in use, which the next worker may need."""
        if self.contender.library == "torch" and self.case.kind != "feeding":
            import torch

            torch.cuda.empty_cache()
        return {}

    def wake(self) -> dict[str, Any]:
        """Takes that memory again, where training needs much of it."""
        if self.case.kind == "training" and _device_memory(self.contender.library) is not None:
            self.subject.run(1)
        return {}

    def busy(self) -> dict[str, Any]:
        """The share of the time in which the GPU runs a kernel; of genjax's training."""
        if self.contender.library != "genjax" or self.case.kind != "training":
            return {}
        from benchmarks import busy

        return {"gpu_busy": busy.share(lambda: self.subject.run(2 * self.contender.scan_steps))}

    def run(self, units: int) -> dict[str, Any]:
        """Seconds per unit, over at least that many."""
        began = time.perf_counter()
        done = self.subject.run(units)
        return {"seconds": (time.perf_counter() - began) / done}

    def memory(self) -> dict[str, Any]:
        """Peak MiB since `watch` beyond those after the imports; of the GPU where there is one."""
        on_host = memory.peak() - self.baseline
        on_device = None if self.case.kind == "feeding" else _device_memory(self.contender.library)
        return {"mib": on_host if on_device is None else on_device}

    def flops(self) -> dict[str, Any]:
        return {"flops": self.subject.flops()}

    def values(self, path: str) -> dict[str, Any]:
        return {"values": self.subject.values(Path(path))}


def prepare(library: str) -> None:
    """Applies the settings that a user of the library would have."""
    if library == "genjax":
        startup.configure()
    if library == "torch":
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.set_float32_matmul_precision("high")  # as XLA does by default on a GPU
        torch.manual_seed(0)


def _device_memory(library: str) -> float | None:
    """Peak MiB of the GPU so far, by the library's allocator; None on a CPU."""
    if library == "genjax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics["peak_bytes_in_use"] / 2**20 if statistics else None
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


def main() -> None:
    given = json.loads(sys.argv[1])
    if given["contender"]["library"] == "genjax":  # as an experiment does
        restart.keep_freed_memory()
    # What libraries print must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(given["case"], Contender(**given["contender"]), bfloat16=given["bfloat16"])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
