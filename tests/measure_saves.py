"""What saving costs: whole runs of an experiment with its checkpoints and without, side by side.

    python -m tests.measure_saves vae_fashion dcgan_fashion --pairs 3

Prints the seconds of both, and the median ratios, with their range, of wall time and of processor
time; exits 1 where that of wall time is above 1.02.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
MOST = 1.02

# The run without: everything else, the summaries and pictures too, stays.
WITHOUT = """
import sys, runpy
from genjax.cli import platform
platform.configure()  # before jax is imported, as in the run that saves
from genjax.train.checkpoint import Checkpoints
Checkpoints.save = lambda *_: None
name = sys.argv.pop(1)
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Options:
    """Which experiments, and how often."""

    experiments: Annotated[tuple[str, ...], tyro.conf.Positional] = ("vae_fashion",)
    pairs: int = 3


class Cost(NamedTuple):
    """Seconds of a run: wall, and of all processors."""

    wall: float
    processor: float


def cost(experiment: str, saving: bool) -> Cost:
    module = f"experiments.{experiment}"
    start = ["-m", module] if saving else ["-c", WITHOUT, module]
    with tempfile.TemporaryDirectory() as directory:
        began, before = time.monotonic(), _processor()
        subprocess.run(
            [sys.executable, *start, "--run.dir", f"{directory}/run"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        return Cost(time.monotonic() - began, _processor() - before)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ratios(pairs: list[dict[bool, Cost]], kind: int) -> tuple[float, str]:
    ratios = sorted(pair[True][kind] / pair[False][kind] for pair in pairs)
    middle = statistics.median(ratios)
    told = ", ".join(f"{pair[True][kind]:.1f}/{pair[False][kind]:.1f}" for pair in pairs)
    return middle, f"{middle:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}: {told})"


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    worst = 0.0
    with tqdm(total=len(options.experiments) * (2 * options.pairs + 1), unit="run") as bar:
        for experiment in options.experiments:
            cost(experiment, True)  # compiles, so that both find the programs in the cache
            bar.update()
            pairs = []
            for number in range(options.pairs):
                pair = {}
                for saving in (True, False) if number % 2 else (False, True):
                    pair[saving] = cost(experiment, saving)
                    bar.update()
                pairs.append(pair)
            wall, told = _ratios(pairs, 0)
            worst = max(worst, wall)
            bar.write(f"{experiment}: wall {told}; processors {_ratios(pairs, 1)[1]}")
    sys.exit(worst > MOST)


if __name__ == "__main__":
    main()
