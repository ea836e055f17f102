"""The table of one GPU: the parts in order of worth until the time is up."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import compare
from benchmarks.cases import Case
from benchmarks.gpu_cases import AUTOTUNED, SAMPLING, SLOWLY_BUILT, TRAINING, UNET, WAYS
from benchmarks.random_images import IMAGES, random_images
from benchmarks.workers import Machine, WorkerError, once

Results = dict[str, Any]
FIRST = TRAINING[1]
LEAST = 20.0  # seconds of a part: with fewer it is not begun
COPYING = 30.0  # seconds for two rates


def run(machine: Machine, minutes: float, results: Results, keep: Callable[[], None]) -> None:
    """Adds to `results` what is not there; keep: called after each part.

    results: those of an earlier call on the same GPU, or without parts.
    """
    deadline = time.monotonic() + 60 * minutes
    parts: list[Callable[[], None]] = [
        lambda: _peak(machine, results, deadline),
        lambda: _cases(TRAINING, machine, results, deadline, keep, 3),
        lambda: _first_step(machine, results, deadline),
        lambda: _cases(SAMPLING, machine, results, deadline, keep, 2),
        lambda: _cases(AUTOTUNED, machine, results, deadline, keep, 3),
    ]
    for part in parts:
        if deadline - time.monotonic() < LEAST:
            compare.log("the time is up: the same command with this --json does what is left")
            break
        try:
            part()
        except WorkerError as error:
            compare.log(f"skipped: {error}")
        keep()


def _left(deadline: float) -> float:
    return max(1.0, deadline - time.monotonic())


def _peak(machine: Machine, results: Results, deadline: float) -> None:
    if "peak" in results:
        return
    seconds = min(4 * COPYING, _left(deadline))
    found = once(machine, "peak", "genjax", "bfloat16", "gpu", seconds=seconds)
    results["peak"], results["copied_bytes"] = {"genjax": found["flops"]}, found["copied_bytes"]
    compare.log(
        f"bfloat16 products {found['flops'] / 1e12:,.0f} TFLOP/s, "
        f"copies {found['copied_bytes'] / 1e12:.2f} TB/s"
    )


def _cases(
    cases: Sequence[Case],
    machine: Machine,
    results: Results,
    deadline: float,
    keep: Callable[[], None],
    rounds: int,
) -> None:
    have = {case["name"] for case in results["cases"]}
    left = [case for case in cases if case.name not in have]
    plan = compare.Plan(rounds, limit=_left(deadline) / 4)
    # A quarter of what is left is for timing, which takes no longer than a minute.
    built = deadline - min(60.0, _left(deadline) / 4)
    for case, result in zip(
        left, compare.run_cases(left, machine, plan, {*WAYS, SLOWLY_BUILT}, built), strict=True
    ):
        if result and case.contenders[0].name in result["contenders"]:
            results["cases"].append(result)
            keep()


def _first_step(machine: Machine, results: Results, deadline: float) -> None:
    """The time from the command of ddpm_cifar10 to its first step, with a new cache and again."""
    if len(results.get("first_step", {})) == 2:
        return
    with tempfile.TemporaryDirectory(dir=machine.caches) as folder:
        caches, file = Path(folder) / "caches", Path(folder) / "images.npz"
        caches.mkdir()
        np.savez(file, random_images(FIRST, IMAGES))
        machine = replace(machine, caches=caches)
        flags = f"--compute bfloat16 --run.batch {FIRST.batch} --data.folder {file}".split()
        flags += ["--data.size", str(UNET.shape[0])]
        for cache in ("cold", "warm"):
            run = str(Path(folder) / cache)
            seconds = _left(deadline)
            measured = once(machine, "first_step", "genjax", run, *flags, seconds=seconds)
            results.setdefault("first_step", {})[f"genjax, {cache} cache"] = measured
            compare.log(f"first step with a {cache} cache after {measured['total']:.1f} s")
