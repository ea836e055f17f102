"""The faults that `tools.inject_faults` injects into runs, each with a row of what survived."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from genjax.train import digests  # noqa: E402
from genjax.train.checkpoint import Checkpoints  # noqa: E402
from tests.checkpointed import arrays  # noqa: E402
from tests.families import FAMILIES  # noqa: E402
from tests.logged import logged_lines  # noqa: E402

EVERY = 5
EMBEDDED = ("fashion_mnist_6k", "shapes64")  # need no download
FOREVER = 10**7


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      harm: the kind of fault.
      family: the family whose runs were harmed.
      tried: faults that hit a working run.
      survived: faults after which the run continued, or ended, as it should.
      lost: steps lost beyond the last save.
      silent: faults that changed a number without being reported.
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


class Runs:
    """The runs of one family in a folder, small networks on an embedded data set."""

    def __init__(self, name: str, folder: Path):
        self.name, self.family, self.folder = name, FAMILIES[name], folder

    def command(self, directory: Path, steps: int, *more: str) -> list[str]:
        module = (
            ["tests.families", self.name]
            if self.family.slices
            else [self.family.experiment.__name__]
        )
        flags = (
            f"--run.dir {directory} --run.steps {steps} --run.every {EVERY} --run.batch 8 "
            f"--run.samples 4 --run.devices 1 {self.family.flags}"
        )
        if self.family.config.data.name not in EMBEDDED:
            flags += f" --data.name {EMBEDDED[0]}"
        return [sys.executable, "-u", "-m", *module, *flags.split(), *more]

    def start(self, directory: Path, steps: int, *more: str) -> subprocess.Popen:
        with (self.folder / "output").open("w") as output:
            return subprocess.Popen(
                self.command(directory, steps, *more),
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def finish(self, directory: Path, steps: int) -> str:
        """The output of an uninterrupted run up to `steps`."""
        code = self.start(directory, steps).wait()
        output = (self.folder / "output").read_text()
        if code:
            raise RuntimeError(f"{self.name} ended with {code}:\n{output}")
        return output


def newest(directory: Path) -> dict[str, int]:
    """{folder of checkpoints: the newest intact step}, a first stage's too."""
    found = {}
    for folder in [*directory.glob("checkpoints"), *directory.glob("*/checkpoints")]:
        steps = sorted((int(p.name) for p in folder.iterdir() if p.name.isdigit()), reverse=True)
        intact = (step for step in steps if digests.damage(folder / str(step)) is None)
        found[str(folder.relative_to(directory))] = next(intact, 0)
    return found


def same(a, b) -> bool:
    leaves = [jax.tree.leaves(tree) for tree in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(*leaves, strict=True)
    )


def kills(runs: Runs, count: int, rng: random.Random) -> Row:
    """kill -9 at random moments; the final run equals an uninterrupted one bit for bit."""
    directory, uninterrupted = runs.folder / "killed", runs.folder / "uninterrupted"
    began = time.monotonic()
    runs.finish(directory, EVERY)
    start = time.monotonic() - began
    tried = survived = lost = 0
    while tried < count:
        process = runs.start(directory, FOREVER)
        time.sleep(rng.uniform(0, 1.5 * start))
        before = newest(directory)
        if process.poll() is not None:
            raise RuntimeError((runs.folder / "output").read_text())
        process.kill()
        process.wait()
        after = newest(directory)
        tried += 1
        lost += sum(max(0, step - after.get(folder, 0)) for folder, step in before.items())
        survived += all(after.get(folder, 0) >= step for folder, step in before.items())
        runs.tick()
    reached = newest(directory)["checkpoints"]
    end = reached + 2 * EVERY
    output = runs.finish(directory, end)
    resumed = re.findall(r"resumed at step ([\d,]+)", output)
    if int(resumed[-1].replace(",", "")) != reached:
        lost += reached - int(resumed[-1].replace(",", ""))
    runs.finish(uninterrupted, end)
    silent = 0
    for folder, step in newest(uninterrupted).items():
        silent += not same(
            *(arrays((path / folder).parent, step) for path in (uninterrupted, directory))
        )
        rows = [(path / folder).parent / "metrics.jsonl" for path in (uninterrupted, directory)]
        silent += rows[0].read_text() != rows[1].read_text()
    return Row("kill -9", runs.name, tried, survived, lost, silent, f"{end:,} steps, bit for bit")


def damages(runs: Runs, count: int, rng: random.Random) -> Row:
    """A flipped bit, a truncated or missing file in the newest checkpoint: noticed, and skipped."""
    source = runs.folder / "uninterrupted"
    if not source.exists():
        runs.finish(source, 2 * EVERY)
    folder = source / "checkpoints"
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    true = {step: arrays(source, step) for step in steps}
    reader = Checkpoints(folder, read_only=True)
    like = _like(true[steps[-1]])
    reader.close()
    survived = silent = 0
    kinds = {"flipped": 0, "cut": 0, "missing": 0}
    for _ in range(count):
        harmed = runs.folder / "harmed"
        shutil.rmtree(harmed, ignore_errors=True)
        shutil.copytree(folder, harmed)
        victim = rng.choice(sorted(p for p in (harmed / str(steps[-1])).rglob("*") if p.is_file()))
        kind = rng.choice(["flipped"] * 8 + ["cut"] * 3 + ["missing"])
        kinds[kind] += 1
        _harm(victim, kind, rng)
        checkpoints = Checkpoints(harmed, read_only=True)
        with logged_lines("genjax.train.checkpoint") as lines:
            found = checkpoints.restore(like)
        checkpoints.close()
        step = int(found["step"])
        seen = step == steps[-2] and len(lines) == 1
        survived += seen
        silent += not same(jax.tree.map(np.asarray, found), true[step])
        runs.tick()
    note = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return Row("damaged file", runs.name, count, survived, 0, silent, note)


def _like(tree):
    return jax.tree.map(jax.numpy.asarray, tree)


def _harm(path: Path, kind: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "flipped" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    else:  # an empty file can only grow
        path.write_bytes(content[: rng.randrange(len(content))] if content else b"\0")


def terminations(runs: Runs, count: int, rng: random.Random) -> Row:
    """SIGTERM at random moments of training: the step is saved, the exit code 143."""
    directory = runs.folder / "terminated"
    runs.finish(directory, EVERY)
    survived = lost = 0
    slowest = 0.0
    for _ in range(count):
        before = newest(directory)["checkpoints"]
        process = runs.start(directory, FOREVER)
        _until(lambda before=before: newest(directory)["checkpoints"] > before)
        time.sleep(rng.uniform(0, 1))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = process.wait()
        slowest = max(slowest, time.monotonic() - began)
        message = re.search(
            r"SIGTERM, step ([\d,]+) is saved", (runs.folder / "output").read_text()
        )
        step = int(message.group(1).replace(",", "")) if message else -1
        survived += code == 143 and newest(directory)["checkpoints"] == step
        lost += max(0, step - newest(directory)["checkpoints"])
        runs.tick()
    note = f"at most {slowest:.1f} s to exit"
    return Row("SIGTERM", runs.name, count, survived, lost, 0, note)


def _until(true, limit: float = 120) -> None:
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit} s")
        time.sleep(0.02)


def full_disks(runs: Runs, sizes: list[int]) -> Row:
    """A tmpfs with room for a few checkpoints: the run fails with one error; saves remain."""
    survived = 0
    notes = []
    for kilobytes in sizes:
        disk, copy = runs.folder / "disk", runs.folder / f"kept_{kilobytes}"
        disk.mkdir(exist_ok=True)
        command = " ".join(runs.command(disk / "run", FOREVER))
        # A mount in a mount namespace of its own needs no privileges and leaves nothing behind.
        script = (
            f"mount -t tmpfs -o size={kilobytes}k none {disk} || exit 99; {command}; code=$?; "
            f"cp -a {disk} {copy}; exit $code"
        )
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script], cwd=runs.folder, capture_output=True, text=True
        )
        if done.returncode == 99:
            return Row("disk full", runs.name, 0, 0, 0, 0, "not tried: no mount here")
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        saved = newest(copy).get("run/checkpoints", 0)
        good = done.returncode in (1, 2) and len(errors) == 1 and "Traceback" not in done.stderr
        survived += good
        notes.append(f"{kilobytes:,} KiB: exit {done.returncode}, step {saved} on disk")
        if not good:
            notes.append(done.stderr[-2000:])
        runs.tick()
    return Row("disk full", runs.name, len(sizes), survived, 0, 0, "; ".join(notes))


def lost_peers(runs: Runs, count: int, rng: random.Random) -> Row:
    """kill -9 of one of two processes: the other ends, and the run resumes from its last save."""
    directory = runs.folder / "peers"
    survived = lost = 0
    slowest = 0.0
    for number in range(count):
        port = 20_000 + rng.randrange(20_000)
        before = newest(directory).get("checkpoints", 0)
        both = []
        for i in range(2):
            joined = f"--run.distributed --run.coordinator localhost:{port} --run.processes 2"
            more = [*joined.split(), "--run.process", str(i)]
            both.append(runs.start(directory, FOREVER, *more))
        _until(lambda before=before: newest(directory).get("checkpoints", 0) > before)
        time.sleep(rng.uniform(0, 1))
        saved = newest(directory)["checkpoints"]
        both[number % 2].kill()
        began = time.monotonic()
        code = both[1 - number % 2].wait()
        slowest = max(slowest, time.monotonic() - began)
        lost += max(0, saved - newest(directory)["checkpoints"])
        survived += code not in (0, None)
        runs.tick()
    note = f"at most {slowest:.1f} s to notice"
    return Row("dead peer", runs.name, count, survived, lost, 0, note)


def sizes(runs: Runs, count: int) -> list[int]:
    """Disks of 0.5, 1.5, … checkpoints of a run, in KiB."""
    uninterrupted = runs.folder / "uninterrupted"
    if not uninterrupted.exists():
        runs.finish(uninterrupted, 2 * EVERY)
    newest_one = max((uninterrupted / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
    size = sum(p.stat().st_size for p in newest_one.rglob("*") if p.is_file())
    return [int((n + 0.5) * size / 1024) for n in range(count)]
