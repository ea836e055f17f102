"""How far a run's losses depend on the number of devices, their layout, and moves between them."""

import tempfile

import jax
import numpy as np

from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import DataParallel, FullySharded
from tests.families import batches, initial

TARGET = 1e-6  # of the difference of losses, over max(1, |loss|)
STEPS = 50
KEY = jax.random.key(1)


def copied(devices):
    return DataParallel(devices)


def sharded(devices):
    return FullySharded(devices, smallest=64)


class Trial:
    """One family in any layout; each layout is compiled once.

    steps: how many there are batches for. float64: in that precision, to rule out rounding.
    """

    def __init__(self, family, steps, *, float64=False):
        self.family, self.steps, self.float64 = family.family(), steps, float64
        self.batches = batches(steps)
        self.initial = initial(self.family)
        if float64:
            self.initial = jax.tree.map(
                lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, self.initial
            )
            # Else the division to 0..1 rounds in float32, in its own way in each program.
            self.batches["image"] = self.batches["image"].astype(np.float64)
        self.dispatches = {}

    def run(self, layout, state=None, first=0, last=None):
        """(state, losses [steps, players]) from one step in each dispatch.

        state: on the layout's devices; None for the initial one.
        """
        with jax.enable_x64(self.float64):
            if layout not in self.dispatches:
                self.dispatches[layout] = layout.compile(self.family.game, scan_steps=1)
            state, found = layout.place(self.initial) if state is None else state, []
            for i in range(first, self.steps if last is None else last):
                batch = layout.feed({name: x[i : i + 1] for name, x in self.batches.items()})
                state, metrics = self.dispatches[layout](state, KEY, batch)
                found.append([float(metrics[f"{name}/loss"][0]) for name in self.family.game])
        return state, np.array(found)


def difference(found, expected):
    """The largest |found − expected| / max(1, |expected|); NaN where anything is."""
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


PARTS = ("params", "variables", "ema", "opt_state")


def state_difference(found, expected, parts=PARTS):
    """`difference` over those parts of two states; NaN where anything is."""
    pairs = [
        (jax.tree.leaves(getattr(state, part)) for state in (found, expected)) for part in parts
    ]
    leaves = [pair for pair in pairs for pair in zip(*pair, strict=True)]
    # Python's `max` would ignore a NaN.
    return float(np.max([0.0, *(difference(np.asarray(a), np.asarray(b)) for a, b in leaves)]))


def moves(trial, expected, legs, length):
    """[(layout, difference of the losses)] of a run that is saved, ended and restored elsewhere.

    legs: its layouts in turn, `length` steps each. expected: the losses of a run in one layout.
    """
    state, found = None, []
    with tempfile.TemporaryDirectory() as directory:
        for number, layout in enumerate(legs):
            first, last = number * length, (number + 1) * length
            if state is not None:
                checkpoints = Checkpoints(directory)
                checkpoints.save(first, state)
                checkpoints.close()
                checkpoints = Checkpoints(directory)
                state = checkpoints.restore(layout.place(trial.initial))
                checkpoints.close()
                assert int(state.step) == first
            state, losses = trial.run(layout, state, first, last)
            found.append((layout, difference(losses, expected[first:last])))
    return found
