"""The table of one GPU: the parts in order of worth until the time is up."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import compare
from benchmarks.cases import Case, Contender
from benchmarks.gpu_cases import SAMPLING, SLOWLY_BUILT, TRAINING, UNET
from benchmarks.random_images import IMAGES, random_images
from benchmarks.workers import Machine, WorkerError, once

Results = dict[str, Any]
FIRST = TRAINING[1]
LEAST = 20.0  # seconds of a part: with fewer it is not begun
COPYING = 120.0  # seconds for two rates, at most
SHORT = 4.0  # minutes: with fewer genjax is built alone at first, which is quicker


def run(machine: Machine, minutes: float, results: Results, keep: Callable[[], None]) -> None:
    """Adds to `results` what is not there; keep: called after each case.

    results: those of an earlier call on the same GPU, or without cases.
    """
    deadline = time.monotonic() + 60 * minutes

    def cases(which: Sequence[Case], fits: Callable[[Contender], bool], rounds: int) -> Any:
        return partial(_cases, which, fits, machine, results, deadline, keep, rounds)

    parts = [partial(_peak, machine, results, deadline)]
    parts += [cases(TRAINING, lambda c: c.library == "genjax", 3)] if minutes < SHORT else []
    parts += [
        cases(TRAINING, lambda c: c.way != SLOWLY_BUILT, 3),
        partial(_first_step, machine, results, deadline),
        cases(SAMPLING, lambda c: True, 2),
        cases(TRAINING, lambda c: True, 3),
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
    seconds = min(COPYING, _left(deadline))
    found = once(machine, "peak", "genjax", "bfloat16", "gpu", seconds=seconds)
    results["peak"], results["copied_bytes"] = {"genjax": found["flops"]}, found["copied_bytes"]
    compare.log(
        f"bfloat16 products {found['flops'] / 1e12:,.0f} TFLOP/s, "
        f"copies {found['copied_bytes'] / 1e12:.2f} TB/s"
    )


def _cases(
    cases: Sequence[Case],
    fits: Callable[[Contender], bool],
    machine: Machine,
    results: Results,
    deadline: float,
    keep: Callable[[], None],
    rounds: int,
) -> None:
    """Times the contenders that fit and are not in the results of their case."""
    known = {case["name"]: case for case in results["cases"]}

    def is_new(case: Case, contender: Contender) -> bool:
        return contender.name not in known.get(case.name, {}).get("contenders", {})

    left = [
        replace(case, contenders=new)
        for case in cases
        if (new := tuple(c for c in case.contenders if fits(c) and is_new(case, c)))
    ]
    plan = compare.Plan(rounds, limit=_left(deadline) / 4)
    # A quarter of what is left is for timing, which takes no longer than a minute.
    built = deadline - min(60.0, _left(deadline) / 4)
    ways = {c.way for case in left for c in case.contenders}
    for found in compare.run_cases(left, machine, plan, ways, built):
        if found:
            _merge(results["cases"], found)
            keep()


def _merge(cases: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Adds a case, or its contenders to those of the same case."""
    known = next((case for case in cases if case["name"] == found["name"]), None)
    if known is None:
        cases.append(found)
        return
    known["contenders"] |= found["contenders"]
    known["flops"] |= found["flops"]
    skipped = known["skipped"] | found["skipped"]
    known["skipped"] = {n: why for n, why in skipped.items() if n not in known["contenders"]}
    counts = {measured["parameters"] for measured in known["contenders"].values()}
    known["same_parameters"] = len(counts) <= 1


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
