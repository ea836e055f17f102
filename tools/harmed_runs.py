"""Runs to harm, and the comparison of what comes of one with the run that nobody harmed."""

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

from tests.checkpointed import arrays  # noqa: E402
from tests.families import FAMILIES  # noqa: E402
from tests.logged import metrics  # noqa: E402

EVERY, LOG = 5, 3  # most checkpoints lie between two rows of metrics
BEGUN, END = 10, 40  # steps of a run that was begun, and of one that is complete
EMBEDDED = ("fashion_mnist_6k", "shapes64")  # need no download

# A report of what is not as it was: one of these in the output, or an error in one line.
REPORTS = ("is skipped", "damaged line", "rows are missing", "differ from those", "another form")


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      harm: the kind of fault.
      family: the family whose runs were harmed.
      tried: faults that hit a working run.
      survived: faults after which the run, taken further by the same command, ended with the bits
        of one that nobody harmed, or was refused in one line where there was nothing to go on from.
      lost: steps that had been saved and were not resumed from, and those of checkpoints deleted.
      silent: faults that changed a bit of the state or the metrics without a report.
      note: details.
    """

    harm: str
    family: str
    tried: int
    survived: int
    lost: int
    silent: int
    note: str = ""

    @property
    def good(self) -> bool:
        return self.survived == self.tried and not self.lost and not self.silent


class Trial(NamedTuple):
    """What came of one fault: see `Row`."""

    survived: bool
    lost: int = 0
    silent: bool = False
    note: str = ""


def summed(harm: str, family: str, trials: list[Trial], note: str = "") -> Row:
    bad = [t.note for t in trials if t.lost or t.silent or not t.survived]
    return Row(
        harm,
        family,
        len(trials),
        sum(trial.survived for trial in trials),
        sum(trial.lost for trial in trials),
        sum(trial.silent for trial in trials),
        "; ".join(filter(None, [note, *bad[:3]])),
    )


class Runs:
    """The runs of one family in a folder, small networks on an embedded data set.

    plant: Python that is run before each of them: a fault of the build, which a harness that
    measures something reports.
    """

    def __init__(self, name: str, folder: Path, plant: str = ""):
        self.name, self.family, self.folder, self.plant = name, FAMILIES[name], folder, plant
        self.number = 0
        self.tick: Callable[[], object] = lambda: None

    def command(self, directory: Path, steps: int, *more: str, plant: str = "") -> list[str]:
        module = (
            ["tests.families", self.name]
            if self.family.slices
            else [self.family.experiment.__name__]
        )
        flags = (
            f"--run.dir {directory} --run.steps {steps} --run.every {EVERY} --run.log {LOG} "
            f"--run.batch 8 --run.samples 4 --run.devices 1 {self.family.flags}"
        )
        if self.family.config.data.name not in EMBEDDED:
            flags += f" --data.name {EMBEDDED[0]}"
        program = ["-m"]
        if plant or self.plant:
            run = "import runpy, sys; sys.argv.pop(0)"
            run += "; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
            program = ["-c", f"{self.plant}\n{plant}\n{run}\n"]
        return [sys.executable, "-u", *program, *module, *flags.split(), *more]

    def start(
        self, directory: Path, *more: str, steps: int = END, plant: str = ""
    ) -> tuple[subprocess.Popen, Path]:
        """The process, and the file of its output."""
        self.number += 1
        path = self.folder / f"output_{self.number}"
        with path.open("w") as output:
            process = subprocess.Popen(
                self.command(directory, steps, *more, plant=plant),
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return process, path

    def ended(self, directory: Path, *more: str, steps: int = END, plant: str = ""):
        """(exit code, output) of a run that nobody stops."""
        process, path = self.start(directory, *more, steps=steps, plant=plant)
        return process.wait(), path.read_text()

    def _made(self, name: str, steps: int) -> Path:
        sound = Runs(self.name, self.folder)
        sound.number = 1_000_000 + steps
        code, output = sound.ended(self.folder / name, steps=steps)
        if code:
            raise RuntimeError(f"{self.name} ended with {code}:\n{output}")
        return self.folder / name

    @cached_property
    def uninterrupted(self) -> Path:
        return self._made("uninterrupted", END)

    @cached_property
    def begun(self) -> Path:
        return self._made("begun", BEGUN)

    def copy(self, name: str) -> Path:
        """A run that was begun, to be harmed."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return shutil.copytree(self.begun, self.folder / name)

    def resumed(self, directory: Path, available: int, note: str = "") -> Trial:
        """What the same command makes of a harmed run, of which a step was available."""
        code, output = self.ended(directory)
        return self.judged(directory, available, code, output, note)

    def judged(self, directory: Path, available: int, code: int, output: str, note: str) -> Trial:
        note = f"{note}: exit {code}: …{output[-300:]}"
        if code:
            return Trial(False, note=note)
        at = re.findall(rf"resumed at step ([\d,]+) of [\d,]+ from {directory}\s", output)
        step = int(at[-1].replace(",", "")) if at else END if "already at" in output else 0
        lost = max(0, available - step)
        different = self.differences(directory)
        reported = any(report in output for report in REPORTS)
        survived = "state" not in different and (reported or not different)
        return Trial(survived, lost, bool(different) and not reported, note if different else "")

    def differences(self, directory: Path, reference: Path | None = None) -> set[str]:
        """What of a complete run, and of its first stage, has other bits than unharmed."""
        reference = reference or self.uninterrupted
        found = set()
        for folder in [*reference.glob("checkpoints"), *reference.glob("*/checkpoints")]:
            stage = directory / folder.parent.relative_to(reference)
            step = complete(folder.parent)
            if complete(stage) != step or not same(
                arrays(stage, step), arrays(folder.parent, step)
            ):
                found.add("state")
            if metrics(folder.parent) != metrics(stage):
                found.add("metrics")
        return found


def refused(code: int, output: str) -> bool:
    """Whether a command ended in one line, as an error for the user does."""
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    return code in (1, 2) and len(errors) == 1 and "Traceback" not in output


def complete(directory: Path) -> int:
    """The newest step whose save was completed; 0 for none."""
    found = (directory / "checkpoints").glob("[0-9]*/digests.json")
    return max((int(p.parent.name) for p in found if p.parent.name.isdecimal()), default=0)


def logged(directory: Path) -> int:
    """The step of the last row of metrics."""
    path = directory / "metrics.jsonl"
    steps = re.findall(r'^{"step": (\d+)', path.read_text() if path.exists() else "", re.M)
    return int(steps[-1]) if steps else 0


def contents(directory: Path) -> dict[str, str]:
    """{file: its digest}"""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def same(a, b) -> bool:
    leaves = [jax.tree.leaves(tree) for tree in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(*leaves, strict=True)
    )


def harm(path: Path, kind: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "flipped" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif kind == "emptied" and content:
        path.write_bytes(b"")
    else:  # an empty file can only grow
        path.write_bytes(content[: rng.randrange(len(content))] if content else b"\0")


def reach(directory: Path, step: int, process: subprocess.Popen, seconds: float = 300) -> None:
    """Waits for a step of a run, its end or an end of patience."""
    end = time.monotonic() + seconds
    while logged(directory) < step and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
