"""What saving costs: whole runs of an experiment with its checkpoints and without, side by side.

    python -m tests.measure_saves vae_fashion dcgan_fashion --pairs 3

Prints the seconds of both, and the median ratio with its range; exits 1 above 1.02.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

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


def seconds(experiment: str, saving: bool) -> float:
    module = f"experiments.{experiment}"
    start = ["-m", module] if saving else ["-c", WITHOUT, module]
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, *start, "--run.dir", f"{directory}/run"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        return time.monotonic() - began


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    worst = 0.0
    with tqdm(total=len(options.experiments) * (2 * options.pairs + 1), unit="run") as bar:
        for experiment in options.experiments:
            seconds(experiment, True)  # compiles, so that both find the programs in the cache
            bar.update()
            pairs = []
            for number in range(options.pairs):
                pair = {}
                for saving in (True, False) if number % 2 else (False, True):
                    pair[saving] = seconds(experiment, saving)
                    bar.update()
                pairs.append(pair)
            ratios = sorted(pair[True] / pair[False] for pair in pairs)
            ratio = statistics.median(ratios)
            worst = max(worst, ratio)
            told = ", ".join(f"{pair[True]:.1f}/{pair[False]:.1f}" for pair in pairs)
            bar.write(
                f"{experiment}: {ratio:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}); "
                f"seconds with and without: {told}"
            )
    sys.exit(worst > MOST)


if __name__ == "__main__":
    main()
