"""Runs probes, each in its own process: python -m benchmarks.probes [NAME ...]."""

import argparse
import importlib
import os
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.probes.finding import measure

NAMES = sorted(
    {m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)])} - {"__main__", "finding"}
)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.probes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    names = parser.parse_args().names or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"no probe {', '.join(unknown)}; there are {', '.join(NAMES)}")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # A probe may change what the next one would measure: what is imported, cached, allocated.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in names:
            code = importlib.import_module(f"benchmarks.probes.{name}").CODE
            try:
                figure, holds = pool.submit(measure, name).result()
            except Exception as error:
                print(f"{name}: not measured: {type(error).__name__}: {error}", flush=True)
                continue
            verdict = "still holds" if holds else f"holds no longer: the code in {code} can go"
            print(f"{name}: {figure}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
