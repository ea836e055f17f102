"""One device or eight, copied or sharded, or moved in between: the same losses and states."""

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from tests.families import FAMILIES
from tools.measure_devices import (
    PARTS,
    STEPS,
    TARGET,
    Trial,
    copied,
    difference,
    moves,
    sharded,
    state_difference,
)

# The others, in the long test, add no further way to depend on the devices.
SHORT = ["gan turns 2", "ddpm", "latent"]
# Statistics that only the step averages over devices, and losses that couple the batch.
UNSYNCHRONISED = ["autoencoder", "vq-vae", "relativistic gan", "mmd autoencoder"]
ALWAYS = {"vq-vae", "relativistic gan"}  # of statistics, and of losses over the batch


@lru_cache
def trial(family):
    return Trial(FAMILIES[family], STEPS)


@pytest.mark.parametrize(
    "family", [f if f == "gan turns 2" else pytest.param(f, marks=pytest.mark.slow) for f in SHORT]
)
def test_the_losses_do_not_depend_on_the_devices_or_the_layout(family):
    _, one = trial(family).run(copied(1))
    assert np.ptp(one, axis=0).min() > 1e-4  # it trains
    for layout in (copied(8), sharded(8)):
        _, losses = trial(family).run(layout)
        assert difference(losses, one) < TARGET, layout


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(f, marks=() if f in ALWAYS else pytest.mark.slow)
        for f in (*UNSYNCHRONISED, "vq autoencoder")
    ],
)
def test_the_state_does_not_depend_on_the_devices_or_the_layout(family):
    """In float64, without rounding as an explanation; statistics and averages neither."""
    exact = Trial(FAMILIES[family], 10, float64=True)
    one, expected = exact.run(copied(1))
    for layout in (copied(2), copied(8), sharded(8)):  # the long test: every number
        state, losses = exact.run(layout)
        assert difference(losses, expected) < TARGET, layout
        for part in PARTS:
            assert state_difference(state, one, [part]) < TARGET, (layout, part)


def test_a_run_resumes_on_any_devices_and_layout():
    moving = trial("gan turns 2")
    _, expected = moving.run(copied(8))
    for layout, found in moves(moving, expected, [copied(8), copied(1), sharded(8), copied(8)], 5):
        assert found < TARGET, layout


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_of_verify_meet_their_targets(family):
    done = subprocess.run(
        [sys.executable, "-m", "tools.verify", family],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
