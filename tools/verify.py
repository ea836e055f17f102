"""Three tables, one row per family, of what a run must not depend on: devices, moves and stops.

    python -m tools.verify [FAMILY ...] [--tables devices moves stops]

Exits 1 where a figure misses its target.
"""

import os

# Before jax starts: eight simulated devices deadlock with fewer than two threads each.
os.environ["PJRT_NPROC"] = "16"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the partitioner's hints

import argparse
import functools
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.families import FAMILIES
from tools import measure_resume as resume
from tools.measure_devices import (
    STEPS,
    TARGET,
    Trial,
    copied,
    difference,
    moves,
    sharded,
    state_difference,
)

COUNTS = (1, 2, 4, 8)
LEGS = [f(n) for f, n in zip([copied] * 4 + [sharded] * 4, [8, 1, 2, 4, 8, 1, 2, 4], strict=True)]
LEGS += [copied(8), copied(1)]
STOPS = ([7], [3, 11], [1, 6])


def main(names: list[str], tables: list[str]) -> int:
    """Prints the tables, each cell as soon as it is known, and returns the number of misses."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    return sum(
        _table(title, columns, names, row)
        for table, title, columns, row in [
            (
                "devices",
                f"Losses of {STEPS} steps against one device's, over max(1, |loss|): at most "
                f"{TARGET:g}. Then, in float64, where rounding is no excuse, the parameters, "
                "variables, averages and optimizer states in all those layouts. The last, for "
                "information: the parameters in float32.",
                [f"copied {n}" for n in COUNTS[1:]]
                + [f"sharded {n}" for n in COUNTS]
                + ["state", "float32"],
                _devices,
            ),
            (
                "moves",
                f"Losses of a run saved, ended and restored every {STEPS // len(LEGS)} steps, "
                f"against one that stays on 8: at most {TARGET:g}.",
                [f"{kind(leg)} {leg.devices}" for leg in LEGS],
                _moves,
            ),
            (
                "stops",
                f"{resume.STEPS} steps of the experiment's command, 5 in a dispatch, against the "
                "same stopped and resumed in other processes: the same bits of parameters, "
                "optimizer, moving average, statistics, rows of metrics and images.",
                [f"stop {', '.join(map(str, stops))}" for stops in STOPS],
                _resume,
            ),
        ]
        if table in tables
    )


@functools.cache
def _trial(name: str) -> Trial:
    return Trial(FAMILIES[name], STEPS)


def kind(layout) -> str:
    return "sharded" if layout == sharded(layout.devices) else "copied"


def _table(title, columns, names, row) -> int:
    """row(name) yields (text, whether it is a miss) for each column."""
    print(f"\n{title}\n\n{'':26}" + "".join(f" {column:>10}" for column in columns), flush=True)
    misses = 0
    for name in names:
        began, missed = time.monotonic(), 0
        print(f"{name:26}", end="", flush=True)
        for text, miss in row(name):
            missed += miss
            print(f" {text:>10}", end="", flush=True)
        print(f"   {'MISS' if missed else 'ok'}  {time.monotonic() - began:.0f} s", flush=True)
        misses += missed
    return misses


def _judged(figure):
    return f"{figure:.1e}", not figure <= TARGET  # NaN is a miss


def _devices(name):
    trial = _trial(name)
    one, expected = trial.run(copied(1))
    layouts = [*map(copied, COUNTS[1:]), *map(sharded, COUNTS)]
    parameters = []
    for layout in layouts:
        state, losses = trial.run(layout)
        parameters.append(state_difference(state, one, ["params"]))
        yield _judged(difference(losses, expected))
    exact = Trial(FAMILIES[name], STEPS, float64=True)
    one, _ = exact.run(copied(1))
    yield _judged(max(state_difference(exact.run(layout)[0], one) for layout in layouts))
    yield f"{max(parameters):.1e}", False


def _moves(name):
    _, expected = _trial(name).run(copied(8))
    for _, figure in moves(_trial(name), expected, LEGS, STEPS // len(LEGS)):
        yield _judged(figure)


def _resume(name):
    family = FAMILIES[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        images = resume.draw_images(place / "images")
        uninterrupted = resume.stopped(name, family, images, place / "uninterrupted", [])
        for number, stops in enumerate(STOPS):
            parts = resume.stopped(name, family, images, place / f"parts{number}", stops)
            found = resume.compare(uninterrupted, parts)
            found["images"] = "" if resume.batches_resume(images, stops) else "differ"
            bad = [f"{part}: {text}" for part, text in found.items() if text]
            yield "; ".join(bad) or "same bits", bool(bad)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tools.verify", description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    kinds = ("devices", "moves", "stops")
    parser.add_argument("--tables", nargs="+", choices=kinds, default=kinds)
    given = parser.parse_args()
    if unknown := set(given.families) - FAMILIES.keys():
        parser.error(f"no family {sorted(unknown)}; there are {', '.join(FAMILIES)}")
    sys.exit(1 if main(given.families or list(FAMILIES), given.tables) else 0)
