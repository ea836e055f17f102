"""Several processes on this machine are one run: its metrics, stops, and a lost process."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax.train import processes
from genjax.train.checkpoint import Checkpoints
from tests.checkpointed import arrays
from tests.logged import metrics

ROOT = Path(__file__).parent.parent.parent


def start(directory, own_sets, *flags, count, devices=1, steps=6, every=3, differing=None):
    """The processes of one VAE run, their output on pipes; `differing`: a flag that each gets its
    own number for."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = (
        f"--run.dir {directory} --run.steps {steps} --run.every {every} --run.batch 8 "
        f"--run.samples 4 --run.scan-steps 1 --hidden 8 --data.dir {own_sets}"
    ).split()
    environment = {
        **os.environ,
        # Of a flag that is given twice the last counts.
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONUNBUFFERED": "1",
    }

    def one(index):
        joined = f"--run.coordinator localhost:{port} --run.processes {count} --run.process {index}"
        joined = ["--run.distributed", *joined.split()] if count > 1 else []
        joined += [differing, str(index)] if differing else []
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.vae_fashion", *shared, *joined, *flags],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return [one(index) for index in range(count)]


def ended(running, limit=180):
    """[(exit code, stdout, stderr)]"""
    found = [process.communicate(timeout=limit) for process in running]
    return [(p.returncode, *streams) for p, streams in zip(running, found, strict=True)]


def wait_for_a_checkpoint(directory, limit=120):
    """Of any step: of the early ones only the best is not soon deleted."""
    until = time.monotonic() + limit
    while not list(directory.glob("checkpoints/[0-9]*/digests.json")):
        assert time.monotonic() < until, f"no checkpoint in {directory}"
        time.sleep(0.05)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, own_sets):
    """Six steps in one process with two devices."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    ((code, _, err),) = ended(start(directory, own_sets, count=1, devices=2))
    assert code == 0, err
    return directory


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_save_and_resume_with_the_numbers_of_one(count, alone, tmp_path, own_sets):
    directory = tmp_path / "run"
    # Three steps by processes that hold copies, the rest by some that share one sharded state.
    for steps, how in ((3, ()), (6, ("--run.sharded",))):
        first, *others = ended(start(directory, own_sets, *how, count=count, steps=steps))
        for code, out, err in (first, *others):
            assert code == 0, err
            assert ("step " in out) == (out is first[1])
    assert "resumed at step 3 of 6" in first[1]
    rows = [metrics(path) for path in (alone, directory)]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for one, two in zip(*rows, strict=True):
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-6)
    close(arrays(alone), arrays(directory))
    assert Checkpoints(directory / "checkpoints", read_only=True).damage(6) is None


@pytest.mark.slow
def test_a_signal_to_one_saves_and_stops_both_at_the_same_step(tmp_path, own_sets):
    directory = tmp_path / "run"
    both = start(directory, own_sets, count=2, steps=10**6, every=200)
    wait_for_a_checkpoint(directory)
    both[1].send_signal(signal.SIGTERM)
    first, second = ended(both)
    assert first[0] == second[0] == 143, first[2] + second[2]
    stops = [re.search(r"SIGTERM, step ([\d,]+) is saved", end[2]).group(1) for end in ended(both)]
    assert stops[0] == stops[1]
    step = int(stops[0].replace(",", ""))
    assert Checkpoints(directory / "checkpoints", read_only=True).steps()[-1] == step


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other_and_the_last_checkpoint_stays(victim, tmp_path, own_sets):
    directory = tmp_path / "run"
    both = start(directory, own_sets, count=2, steps=10**6, every=20)
    wait_for_a_checkpoint(directory)
    both[victim].kill()
    code, _, err = ended(both)[1 - victim]
    assert code not in (0, None)
    # Where the coordinator in process 0 dies between two collectives, jax itself ends the others.
    assert "lost another process" in err or (victim == 0 and "another task died" in err)
    saved = Checkpoints(directory / "checkpoints", read_only=True)
    intact = [step for step in saved.steps() if saved.damage(step) is None]
    assert intact
    ((code, out, err),) = ended(start(directory, own_sets, count=1, steps=intact[-1] + 1))
    assert code == 0, err
    assert f"resumed at step {intact[-1]:,}" in out


@pytest.mark.slow
def test_processes_with_different_settings_exit_with_an_error(tmp_path, own_sets):
    both = start(tmp_path / "run", own_sets, count=2, differing="--run.seed")
    for code, _, err in ended(both):
        assert code == 1
        assert "differ in their settings" in err


def test_joining_leaves_signals_to_the_loop_and_an_unreachable_process_is_no_usage_error(
    monkeypatch,
):
    asked = []

    def initialize(*which, **limits):
        asked.append((which, limits, jax.config.jax_enable_preemption_service))
        if which[0] == "nowhere:1":
            raise RuntimeError("DEADLINE_EXCEEDED: nobody there\nat length")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    before = jax.config.jax_enable_preemption_service
    try:
        jax.config.update("jax_enable_preemption_service", True)
        processes.join("here:1", 2, 0)
        with pytest.raises(processes.ProcessError, match=r"cannot join .*: DEADLINE") as error:
            processes.join("nowhere:1", 2, 1)
    finally:
        jax.config.update("jax_enable_preemption_service", before)
    assert error.value.exit_code == 1
    limits = {"heartbeat_timeout_seconds": 15, "shutdown_timeout_seconds": 30}
    assert asked == [
        (("here:1", 2, 0), limits, False),
        (("nowhere:1", 2, 1), limits, False),
    ]


def test_numbers_and_arrays_of_one_process_are_its_own():
    assert processes.is_main_process()
    assert not processes.is_multi_process()
    assert int(processes.maximum(7)) == 7
    tree = {"a": np.float32([-0.0, np.nan, 1]), "b": np.int32(3), "c": np.array([True, False])}
    like = jax.device_put(tree, jax.devices()[1])
    there = processes.broadcast_from_main(tree, like)
    jax.tree.map(
        lambda x, y: np.testing.assert_equal(np.asarray(x).tobytes(), y.tobytes()), there, tree
    )
    assert all(
        x.sharding == y.sharding for x, y in zip(*map(jax.tree.leaves, (there, like)), strict=True)
    )


@pytest.mark.parametrize(
    ("several", "message", "raised"),
    [
        (True, "UNAVAILABLE: connection closed", processes.ProcessError),
        (True, "give one key per example", ValueError),
        (False, "INTERNAL: a bug", ValueError),
    ],
)
def test_only_a_broken_collective_of_several_processes_is_reworded(
    several, message, raised, monkeypatch
):
    monkeypatch.setattr(processes, "is_multi_process", lambda: several)
    with pytest.raises(raised) as error, processes.readable_collective_errors():
        raise ValueError(message)
    assert type(error.value) is raised
