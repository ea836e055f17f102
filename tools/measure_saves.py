"""What saving costs: one run in which every second save is skipped, compared stretch by stretch.

    python -m tools.measure_saves vae_fashion dcgan_fashion

A machine's speed changes by more than 2 % from run to run, so that separate runs with and
without saves show nothing; neighbouring stretches of one run do. Prints the milliseconds that a
save (copy, writing in the background, digests) adds to the stretch after it, with a 95 % interval
of the median, and what its saves are of the experiment's default run. Exits 1 where that is above
2 %.
"""

import importlib
import itertools
import json
import math
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
MOST = 0.02

# The run records when each save would start; only every second one does.
NOTING = """
import json, runpy, sys, time
from genjax.cli import startup
startup.configure()  # before jax is imported
from genjax.train.checkpoint import Checkpoints
begun = []
save = Checkpoints.save

def every_second(self, *given):
    begun.append(time.monotonic())
    if len(begun) % 2:
        save(self, *given)

Checkpoints.save = every_second
name, noted = sys.argv.pop(1), sys.argv.pop(1)
runpy.run_module(name, run_name="__main__", alter_sys=True)
open(noted, "w").write(json.dumps(begun))
"""


@dataclass(frozen=True)
class Options:
    """Which experiments, and how long."""

    experiments: Annotated[tuple[str, ...], tyro.conf.Positional] = ("vae_fashion",)
    stretches: int = 200
    """Of each run; every second one begins with a save."""
    steps: int = 100
    """Of a stretch: enough that a save ends within it."""


class Added(NamedTuple):
    """Seconds that a save adds: the median and its 95 % interval."""

    middle: float
    low: float
    high: float


def noted(experiment: str, stretches: int, steps: int) -> list[float]:
    """When each save of a run would have started, seconds."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "noted.json"
        flags = f"--run.dir {directory}/run --run.every {steps} --run.steps {steps * stretches}"
        _run("-c", NOTING, f"experiments.{experiment}", str(file), *flags.split())
        return json.loads(file.read_text())


def added(begun: list[float]) -> Added:
    """By a save to the stretch after it, where the first and every second one after it saved."""
    warm = len(begun) // 10 * 2
    lasted = [after - before for before, after in itertools.pairwise(begun[warm:])]
    more = sorted(a - b for a, b in zip(lasted[::2], lasted[1::2], strict=False))
    # The ranks of a 95 % interval of the median, for any distribution.
    reach, middle = math.ceil(0.98 * math.sqrt(len(more))), len(more) // 2
    return Added(
        statistics.median(more),
        more[max(0, middle - reach)],
        more[min(len(more) - 1, middle + reach)],
    )


def default_run(experiment: str) -> float:
    """Seconds of the experiment as it is, its programs compiled before."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        _run("-m", f"experiments.{experiment}", "--run.dir", f"{directory}/run")
        return time.monotonic() - began


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)


def main() -> None:
    options = tyro.cli(Options, prog="python -m tools.measure_saves", description=__doc__)
    worst = 0.0
    for experiment in tqdm(options.experiments, unit="experiment"):
        run = importlib.import_module(f"experiments.{experiment}").Config().run
        saves = math.ceil(run.steps / run.every)
        found = added(noted(experiment, options.stretches, options.steps))
        lasted = default_run(experiment)
        share = saves * found.middle / lasted
        worst = max(worst, share)
        tqdm.write(
            f"{experiment}: a save adds {found.middle * 1e3:.0f} ms ({found.low * 1e3:.0f} to "
            f"{found.high * 1e3:.0f}); {saves} in {lasted:.1f} s: {share:.1%}"
        )
    sys.exit(worst > MOST)


if __name__ == "__main__":
    main()
