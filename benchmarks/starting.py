"""The time from a command to the first train step, with cold and warm compilation caches."""

import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.compare import log
from benchmarks.workers import Machine, WorkerError, once

COLD, WARM = 2, 3


def measure(machine: Machine, rounds: int, ways: set[str]) -> dict[str, dict[str, float]]:
    """{"genjax, cold cache": {phase: median seconds}, …}; a cold cache is a new folder."""
    found: dict[str, dict[str, float]] = {}
    cold, warm = min(COLD, rounds), min(WARM, rounds)
    _prepare_images(machine)
    kinds = [("genjax", "")]
    if all(importlib.util.find_spec(name) for name in ("torch", "diffusers")):
        kinds += [("torch", way) for way in ("eager", "compile") if way in ways]
    else:
        log("first step of torch skipped: torch or diffusers is not installed")
    for library, way in kinds:
        name = f"{library} {way}".strip()
        with tempfile.TemporaryDirectory(dir=machine.caches) as folder:
            cold_machine = dataclasses.replace(machine, caches=Path(folder) / "last")
            if way != "eager":  # nothing is compiled, nothing is cached
                folders = [Path(folder) / str(i) for i in range(cold - 1)]
                runs = [
                    _run(dataclasses.replace(machine, caches=f), library, way, name)
                    for f in folders
                ]
                found[f"{name}, cold cache"] = _medians(
                    [*runs, _run(cold_machine, library, way, name)]
                )
            label = name if way == "eager" else f"{name}, warm cache"
            found[label] = _medians([_run(cold_machine, library, way, name) for _ in range(warm)])
    return {name: phases for name, phases in found.items() if phases}


def _run(machine: Machine, library: str, way: str, name: str) -> dict[str, float]:
    machine.caches.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=machine.caches) as run:
        try:
            measured = once(machine, "first_step", library, way or run)
        except WorkerError as error:
            log(f"first step of {name} skipped: {error}")
            return {}
    log(f"first step of {name} after {measured['total']:.1f} s")
    return measured


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    found = [run for run in runs if run]
    return {phase: median(run[phase] for run in found) for phase in found[0]} if found else {}


def _prepare_images(machine: Machine) -> None:
    """Prepares the bundled images, which happens at their first use and is not timed."""
    try:
        once(machine, "prepare_images")
    except WorkerError as error:
        log(f"images are not prepared: {error}")
