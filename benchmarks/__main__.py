"""The command: python -m benchmarks; --help lists its flags."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import compare, gpu, gpu_page, page, starting
from benchmarks.cases import CASES
from benchmarks.environment import environment
from benchmarks.workers import Machine, WorkerError, once

PARTS = ("peak", "first-step")
RESULTS = Path(__file__).parent / "results.json"
GPU_RESULTS = RESULTS.with_name("results_gpu.json")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times genjax and its peers in turns on this machine, which must be idle.",
    )
    names = ", ".join([*PARTS, *(c.name + ("*" if c.optional else "") for c in CASES)])
    parser.add_argument(
        "parts", nargs="*", help=f"{names}; a prefix stands for all that match; none: all but *"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns per contender, at most")
    parser.add_argument("--seconds", type=float, default=0.8, help="approximate length of a turn")
    parser.add_argument(
        "--limit", type=float, default=75.0, help="approximate seconds of all turns of a part"
    )
    parser.add_argument(
        "--ways", default="eager,channels-last,compile", help="of PyTorch; default: %(default)s"
    )
    parser.add_argument("--cores", type=int, help="how many cores to use; default: all")
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="both libraries on the GPU; no part: the GPU's table, which --json lets resume",
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="of the GPU's table; default: %(default)s"
    )
    parser.add_argument("--bfloat16", action="store_true", help="networks compute in bfloat16")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument(
        "--write", action="store_true", help=f"{RESULTS.name} and docs/performance.md as well"
    )
    parser.add_argument("--page", type=Path, help="only write the page, from a file of results")
    return parser.parse_args()


def chosen(parts: list[str]) -> list[str]:
    """The names that match the given parts, in the order of the table.

    Raises:
      SystemExit: where a part matches no name.
    """
    names = [*PARTS, *(c.name for c in CASES)]
    if not parts:
        return [n for n in names if not any(c.name == n and c.optional for c in CASES)]
    for part in parts:
        if not any(name.startswith(part) for name in names):
            raise SystemExit(f"error: no part {part!r}; there are: {', '.join(names)}")
    exact = set(parts) & set(names)
    return [n for n in names if n in exact or any(n.startswith(p) for p in set(parts) - exact)]


def main() -> None:
    given = arguments()
    if given.page:
        _write(json.loads(given.page.read_text()))
        return
    if given.gpu and not given.parts:
        gpu_table(given)
        return
    names, began = chosen(given.parts), time.monotonic()
    cores = sorted(os.sched_getaffinity(0))[: given.cores]
    os.sched_setaffinity(0, cores)
    results: dict[str, Any] = {"environment": environment(gpu=given.gpu), "cases": []}
    results["environment"]["bfloat16"] = given.bfloat16
    plan = compare.Plan(given.rounds, given.seconds, given.limit)
    ways = set(given.ways.split(","))
    with tempfile.TemporaryDirectory(prefix="genjax-benchmarks-") as caches:
        machine = Machine(tuple(cores), given.gpu, Path(caches), given.bfloat16)
        if "peak" in names:
            results["peak"] = peak(machine)
        for case in CASES:
            if case.name in names:
                if result := compare.run_case(case, machine, plan, ways):
                    results["cases"].append(result)
                _keep(results, given.json)
        if "first-step" in names:
            results["first_step"] = starting.measure(machine, given.rounds, ways)
    results["minutes"] = (time.monotonic() - began) / 60
    _keep(results, given.json)
    if given.write:
        _write(results)
    print(page.text(results))


def gpu_table(given: argparse.Namespace) -> None:
    """The table of one GPU, resumed from the file of --json where there is one.

    Raises:
      SystemExit: where that file is of another GPU, or of other versions or code.
    """
    here = environment(gpu=True) | {"bfloat16": True}
    results: dict[str, Any] = {"environment": here, "cases": []}
    if given.json and given.json.exists():
        results = json.loads(given.json.read_text())
        for name in ("gpu", "commit", "versions"):
            if results["environment"][name] != here[name]:
                raise SystemExit(f"error: {given.json} is of another {name}: give another --json")
    cores = tuple(sorted(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="genjax-benchmarks-") as caches:
        machine = Machine(cores, bool(here["gpu"]), Path(caches), bfloat16=True)
        gpu.run(machine, given.minutes, results, lambda: _keep(results, given.json))
    if given.write:
        _write(results)
    print(gpu_page.section(results))


def _write(results: dict[str, Any]) -> None:
    """Keeps results beside this file, and writes the page from those of CPU and GPU."""
    path = GPU_RESULTS if results["environment"]["gpu"] else RESULTS
    _keep(results, path)
    section = gpu_page.section(json.loads(GPU_RESULTS.read_text())) if GPU_RESULTS.exists() else ""
    page.write(json.loads(RESULTS.read_text()), section)


def _keep(results: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(results, indent=1) + "\n")


def peak(machine: Machine) -> dict[str, float]:
    """The matrix-multiply rate by each library, in operations per second."""
    rates = {}
    kind = "bfloat16" if machine.bfloat16 else "float32"
    for library in ("genjax", "torch"):
        try:
            rates[library] = once(machine, "peak", library, kind)["flops"]
        except WorkerError as error:
            compare.log(f"peak by {library} skipped: {error}")
            continue
        compare.log(f"{kind} matrix multiply by {library}: {rates[library] / 1e9:,.0f} GFLOP/s")
    return rates


if __name__ == "__main__":
    main()
