"""Whether a run stopped and resumed in other processes equals an uninterrupted one, bit for bit."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from genjax.data import open_images
from tests.checkpointed import arrays
from tests.logged import metrics

ROOT = Path(__file__).parent.parent
BATCH, STEPS = 8, 15
# 44 images: the end of an epoch falls inside a batch of 8. Dispatches of 5 steps: 7 and 11
# are inside one.
IMAGES, CLASSES, SIDE = 44, 4, 8
COMPARED = ("params", "opt_state", "ema", "variables", "rows")


def draw_images(folder):
    """A folder of noise, by split and class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("test", 2 * CLASSES)):
        for i in range(count):
            path = folder / split / f"class_{i % CLASSES}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    return folder


def command(name, family, images, directory, steps, dispatch, devices):
    """Runs the experiment's own command up to `steps`, in another process."""
    ours = family.experiment.__name__.startswith("experiments.") and not family.slices
    module = [family.experiment.__name__] if ours else ["tests.families", name]
    flags = (
        f"--run.dir {directory} --run.steps {steps} --run.every 5 --run.log 4 "
        f"--run.scan-steps {dispatch} --run.batch {BATCH} --run.samples 4 --run.devices {devices} "
        f"--data.folder {images} --data.size {SIDE}"
    )
    done = subprocess.run(
        [sys.executable, "-m", *module, *flags.split(), *family.flags.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name} at step {steps}: {done.stderr}")
    return done.stdout


def stopped(name, family, images, directory, stops, dispatch=5, devices=2):
    """The directory of a run of STEPS steps in len(stops) + 1 processes."""
    for number, steps in enumerate([*stops, STEPS]):
        output = command(name, family, images, directory, steps, dispatch, devices)
        if number:
            assert f"resumed at step {stops[number - 1]}" in output, output
    return directory


def _arrays(directory):
    """{name: array} of every checkpointed array of a run and of its first stage."""
    found = {}
    for place in sorted(directory.rglob("checkpoints")):
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays(place.parent)):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            found[f"{name} {place.parent.relative_to(directory)}"] = leaf
    return found


def _rows(directory):
    return {
        path.relative_to(directory): metrics(path.parent)
        for path in directory.rglob("metrics.jsonl")
    }


def compare(uninterrupted, parts):
    """{part of the run: what differs, "" for nothing}, by bits."""
    one, other = _arrays(uninterrupted), _arrays(parts)
    assert one.keys() == other.keys()
    found = {}
    for part in COMPARED[:-1]:
        names = [name for name in one if name.startswith(f"{part}.")]
        bad = [name for name in names if one[name].tobytes() != other[name].tobytes()]
        far = max((float(np.max(np.abs(one[n] - other[n]))) for n in bad), default=0)
        found[part] = f"{len(bad)} of {len(names)} by {far:.0e}" if bad else ""
    rows, others = _rows(uninterrupted), _rows(parts)
    same = rows == others and any(rows.values())
    found["rows"] = "" if same else _first_difference(rows, others)
    return found


def _first_difference(rows, others):
    for path in rows:
        steps, its = ([row["step"] for row in r.get(path, [])] for r in (rows, others))
        if steps != its:
            return f"{path.name}: steps {steps} and {its}"
        for a, b in zip(rows[path], others[path], strict=True):
            if a != b:
                return f"{path.name} at step {a['step']}"
    return "no rows"


def batches_resume(images, stops):
    """Whether the loop's stream of images, cut at the stops, is that of an uninterrupted run."""
    source = open_images(folder=images, split="train", size=SIDE)

    def stream(start, stop):
        parts = source.batches(0, start, BATCH, scan_steps=5, stop=stop)
        return np.concatenate([part["image"] for part in parts])

    cuts = [0, *stops, STEPS]
    pieces = [stream(a, b) for a, b in pairwise(cuts)]
    return np.array_equal(np.concatenate(pieces), stream(0, STEPS))
