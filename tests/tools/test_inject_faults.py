"""The short version of `python -m tools.inject_faults`, and of a build with faults in it."""

import random

import pytest

from tools import harms
from tools.harmed_runs import Runs
from tools.inject_faults import EACH, FIRST

NO_SIGNALS = """
import signal
from genjax.train import signals
signals.STOPPING = (signal.SIGINT,)
"""
OLDER = """
from genjax.train import digests
steps = digests.steps
digests.steps = lambda directory: steps(directory)[:-1]
"""
DELETING = """
import shutil
from genjax.train.checkpoint import Checkpoints
Checkpoints._set_aside = lambda self, step: shutil.rmtree(self.directory / str(step))
"""
STARTING = """
from genjax.train.checkpoint import Checkpoints
Checkpoints.set_aside_after = lambda self, step: None
"""
UNREADABLE_IS_DAMAGED = """
from genjax.train import digests
damage = digests.damage
def forgiving(*given):
    try:
        return damage(*given)
    except OSError:
        return "it cannot be read"
digests.damage = forgiving
"""
UNLOCKED = """
from genjax.run import lock
lock._take = lambda *_: False
"""
SILENT = """
from genjax.run.training import WriteError
from genjax.train.checkpoint import SaveError
SaveError.exit_code = WriteError.exit_code = 0
"""
# What a build of each kind of fault does, by the kind of harm that shows it.
PLANTED = {
    "kills": OLDER,
    "damages": DELETING,
    "all_damaged": STARTING,
    "read_errors": UNREADABLE_IS_DAMAGED,
    "terminations": NO_SIGNALS,
    "closed_terminals": NO_SIGNALS,
    "pairs": UNLOCKED,
    "disks": SILENT,
}
NEWEST = "checkpoints/10/**/*"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs("vae", tmp_path_factory.mktemp("harmed"))


def injected(runs, kind, plant=""):
    runs.plant = plant
    try:
        if kind == "damages":
            return harms.damages(runs, 1, random.Random(0), NEWEST)
        return {**EACH, **FIRST}[kind](runs, 1, random.Random(0))
    finally:
        runs.plant = ""


# Other tests have kills, signals, damaged checkpoints, full disks and the lock.
@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_a_harmed_run_ends_with_the_bits_of_an_unharmed_one(runs, kind):
    row = injected(runs, kind)
    assert row.good, row
    # A disk of its own takes a mount, which not every machine allows.
    assert row.tried or "no mount here" in row.note, row


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_a_fault_of_the_build_is_reported(runs, kind):
    row = injected(runs, kind, PLANTED[kind])
    assert not row.good or "no mount here" in row.note, row
