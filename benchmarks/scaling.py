"""What devices tell each other in a train step, read from compiled programs: no GPU is needed.

    python -m benchmarks.scaling [EXPERIMENT] [--devices 2 8 64] [--milliseconds 21.8]

compiles an experiment's step for so many simulated devices in both layouts, and counts what its
collectives carry. From that it predicts weak scaling, the batch per device kept: a step takes its
time on one device and the traffic of a ring over the bandwidth, unless the two overlap. A CPU's
compiler does not schedule them side by side, so that the range from no overlap to all is printed.
"""

import argparse
import importlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace

LAYOUTS = ("copied", "sharded")
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")
# Bytes that each of n devices sends in a ring, by those of the result on one device.
RING = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}


def main() -> None:
    """Prints a row per number of devices and layout."""
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("experiment", nargs="?", default="ddpm_cifar10")
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--batch", type=int, default=1, help="images per device; traffic is alike")
    parser.add_argument("--milliseconds", type=float, default=21.8, help="of a step on one device")
    parser.add_argument("--gigabytes", type=float, default=400, help="a device sends in a second")
    parser.add_argument("--layout", choices=LAYOUTS, help=argparse.SUPPRESS)  # of a worker
    asked = parser.parse_args()
    if asked.layout:
        print(json.dumps(carried(asked.experiment, asked.layout, asked.devices[0], asked.batch)))
        return
    print(
        f"{asked.experiment}: {asked.milliseconds:g} ms on one device, {asked.gigabytes:g} GB/s "
        "between devices"
    )
    print("| devices | layout | collectives | MB on a device | MB sent | efficiency |")
    print("|---|---|---|---|---|---|")
    for n in asked.devices:
        for layout in LAYOUTS:
            found = in_a_process(asked.experiment, layout, n, asked.batch)
            print(row(n, layout, found, asked.milliseconds / 1e3, asked.gigabytes * 1e9))


def row(n: int, layout: str, found: dict[str, list[int]], alone: float, bandwidth: float) -> str:
    """A line of the table; alone: seconds of a step on one device."""
    counts = ", ".join(f"{len(sizes)} {kind}" for kind, sizes in found.items())
    moved = sum(map(sum, found.values()))
    sent = traffic(found, n)
    worst, best = efficiency(alone, sent / bandwidth)
    cells = [f"{n}", layout, counts or "none", f"{moved / 1e6:.1f}", f"{sent / 1e6:.1f}"]
    return "| " + " | ".join([*cells, f"{worst:.1%} to {best:.1%}"]) + " |"


def traffic(found: dict[str, list[int]], n: int) -> float:
    """Bytes that each of n devices sends."""
    return sum(RING[kind](n) * sum(sizes) for kind, sizes in found.items())


def efficiency(alone: float, communicating: float) -> tuple[float, float]:
    """Of weak scaling, where nothing overlaps and where all that can does."""
    return alone / (alone + communicating), alone / max(alone, communicating)


def in_a_process(experiment: str, layout: str, n: int, batch: int) -> dict[str, list[int]]:
    """`carried` in a process of its own, which has n devices from its start."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    environment["PJRT_NPROC"] = str(2 * n)
    words = [experiment, "--layout", layout, "--devices", str(n), "--batch", str(batch)]
    command = [sys.executable, "-m", "benchmarks.scaling", *words]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{layout} on {n} devices: {found.stderr.strip().splitlines()[-1]}")
    return json.loads(found.stdout.splitlines()[-1])


def carried(experiment: str, layout: str, n: int, batch: int) -> dict[str, list[int]]:
    """{kind: bytes of the result of each collective of a train step, on one device}."""
    import jax
    import numpy as np

    from genjax.data import ImageSpec
    from genjax.run.family import build_family
    from genjax.train.layout import DataParallel, FullySharded

    module = importlib.import_module(f"experiments.{experiment}")
    config = module.Config()
    config = replace(config, run=replace(config.run, batch=n * batch, devices=n))
    family, like = build_family(module.build, config, ImageSpec((32, 32, 3), 10, 50_000), "of it")
    over = {"copied": DataParallel(n), "sharded": FullySharded(n)}[layout]
    images = {
        "image": np.zeros((1, n * batch, 32, 32, 3), np.uint8),
        "label": np.zeros((1, n * batch), np.int32),
    }
    steps = over.compile(family.game, scan_steps=1)
    arguments = over.like(like), jax.random.key(0), over.feed(images), (None,)
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return collectives(steps.function.lower(*arguments).compile(quick).as_text())


def collectives(program: str) -> dict[str, list[int]]:
    """{kind: bytes of each result} in the text of a compiled program."""
    found: dict[str, list[int]] = {}
    for result, kind in COLLECTIVE.findall(program):
        found.setdefault(kind, []).append(sum(map(_bytes, ARRAY.findall(result))))
    return found


def _bytes(array: tuple[str, str]) -> int:
    kind, sides = array
    bits = 8 if kind == "pred" else int(re.sub(r"^[a-z]+", "", kind))
    return math.prod(map(int, filter(None, sides.split(",")))) * bits // 8


if __name__ == "__main__":
    main()
