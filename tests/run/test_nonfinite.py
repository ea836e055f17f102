"""A step that is not finite: stop, skip, roll back, and replay."""

import os
import re
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vae_fashion
from genjax import files
from genjax.cli.main import main
from genjax.data import images_from_arrays, open_images
from genjax.files import read_rows
from genjax.run import Settings, nonfinite
from genjax.train.keys import example_keys, step_key, train_key
from genjax.train.loop import NonFiniteError
from tests.checkpointed import arrays


def breaking(when):
    """The VAE's build, its loss NaN where when(step counted from 1, the first example's key)."""

    def build(config, spec):
        family = vae_fashion.build(config, spec)
        player = family.game["vae"]

        def loss(params, state, keys, batch):
            value, aux = player.loss(params, state, keys, batch)
            bad = when(state.step + 1, keys[0])
            return value * jnp.where(bad, jnp.nan, 1.0), aux

        return replace(family, game={"vae": replace(player, loss=loss, ema=0.9)})

    return build


@pytest.fixture
def run(tmp_path, own_sets, monkeypatch, capsys):
    def run(build, *extra, command=(), steps=8):
        directory = tmp_path / "run"
        flags = (
            f"--run.dir {directory} --run.steps {steps} --run.every 3 --run.batch 8 "
            f"--run.samples 4 --run.scan-steps 1 --run.log 1 --run.devices 1 --hidden 8 "
            f"--data.dir {own_sets}"
        )
        arguments = [*command, directory] if command else [*flags.split(), *extra]
        monkeypatch.setattr(sys, "argv", ["vae_fashion", *map(str, arguments)])
        capsys.readouterr()
        try:
            main("vae_fashion", "", vae_fashion.Config(), build)
        except SystemExit as stop:
            return stop.code, capsys.readouterr()
        return 0, capsys.readouterr()

    run.directory = tmp_path / "run"
    return run


def at(*steps):
    return breaking(lambda step, key: jnp.any(jnp.array(steps) == step))


def test_a_non_finite_step_stops_the_run_and_records_its_batch_and_key(run, own_sets):
    code, output = run(at(5))
    assert code == 1
    assert output.err.splitlines()[-1] == "error: vae/grad_norm, vae/loss not finite at step 5"
    (row,) = nonfinite.recorded_faults(run.directory)
    assert (row["step"], row["answer"], row["from"]) == (5, "stop", 0)
    images = open_images("fashion_mnist_6k", split="train", data_dir=own_sets)
    np.testing.assert_array_equal(
        images.source[np.array(row["images"])]["image"], images.batch(0, 4, 8)["image"]
    )
    key = jax.random.fold_in(train_key(jax.random.key(0), 0), 4)
    np.testing.assert_array_equal(jax.random.key_data(key), row["key"])


def test_a_replay_shows_what_is_not_finite_and_changes_nothing(run):
    run(at(5))
    before = {p: p.read_bytes() for p in run.directory.rglob("*") if p.is_file()}
    code, output = run(at(5), command=("replay",))
    assert code == 0
    assert re.search(r"vae/loss +nan", output.out)
    assert re.search(r"vae/kl +\d", output.out)
    assert "not finite after it: vae." in output.out
    assert {p: p.read_bytes() for p in run.directory.rglob("*") if p.is_file()} == before


def test_a_run_without_non_finite_steps_has_nothing_to_replay(run):
    run(at(99), steps=1)
    code, output = run(at(99), command=("replay",))
    assert code == 2
    assert "no step of it was not finite" in output.err


@pytest.mark.slow
def test_a_stopped_run_resumes_bit_for_bit_once_the_fault_is_fixed(run, tmp_path):
    run(at(5))
    assert run(at())[0] == 0
    cut = arrays(run.directory)
    os.rename(run.directory, tmp_path / "cut")
    run(at())
    jax.tree.map(np.testing.assert_array_equal, cut, arrays(run.directory))


def test_a_skipped_step_does_not_change_the_state(run):
    code, _ = run(at(5), "--run.non-finite", "skip")
    assert code == 0
    assert [row["answer"] for row in nonfinite.recorded_faults(run.directory)] == ["skip"]
    rows = read_rows(run.directory / "metrics.jsonl")
    assert all(np.isfinite(value) for row in rows for value in row.values())
    skipped = {row["step"]: row["vae/skipped"] for row in rows if "vae/skipped" in row}
    assert skipped == {step: float(step == 5) for step in range(1, 9)}


def test_too_many_skips_in_a_row_stop_the_run(run, monkeypatch):
    monkeypatch.setattr(nonfinite, "MOST_SKIPPED", 2)
    code, output = run(at(2, 4, 5, 6), "--run.non-finite", "skip")
    assert code == 1
    assert "step 6" in output.err
    assert "2 updates in a row were skipped" in output.out


def test_a_rollback_resumes_from_the_checkpoint_with_other_noise(run):
    # A fault of one in four draws of the noise, but only at step 5 and for the first two tries.
    tries = train_key(jax.random.key(0), 0), train_key(jax.random.key(0), 1)
    unlucky = jnp.stack([jax.random.key_data(first_key(key, step=5)) for key in tries])
    build = breaking(
        lambda step, key: jnp.any(jnp.all(jax.random.key_data(key)[None] == unlucky, axis=1))
    )
    code, output = run(build, "--run.non-finite", "rollback")
    assert code == 0
    rows = nonfinite.recorded_faults(run.directory)
    assert [(row["step"], row["answer"], row["from"]) for row in rows] == [
        (5, "rollback", 0),
        (5, "rollback", 3),
    ]
    assert output.out.count("resumed at step 3 of 8") == 2
    assert [
        row["step"] for row in read_rows(run.directory / "metrics.jsonl") if "vae/kl" in row
    ] == [*range(1, 9)]


def first_key(key, step):
    """The key of the first player's first example."""
    return example_keys(step_key(key, step - 1), 0, 8, None)[0]


@pytest.mark.slow
def test_rollbacks_end_where_other_noise_does_not_help(run):
    code, output = run(at(5), "--run.non-finite", "rollback")
    assert code == 1
    assert [row["answer"] for row in nonfinite.recorded_faults(run.directory)] == [
        "rollback"
    ] * 3 + ["stop"]
    assert "3 rollbacks to step 3 did not help" in output.out


def test_a_planted_link_is_not_written_through(tmp_path):
    target, images = tmp_path / "elsewhere", np.zeros((8, 1, 1, 1), np.uint8)
    target.write_text("mine\n")
    (tmp_path / "faults.jsonl").symlink_to(target)
    settings = Settings(steps=8, batch=2)
    policy = nonfinite.NonFinitePolicy(tmp_path, settings, images_from_arrays(images))
    policy.start(jax.random.key(0), 0)
    with pytest.raises(OSError, match="symbolic link"):
        policy(NonFiniteError(5, ["vae/loss"]))
    assert target.read_text() == "mine\n"


def policy_at(directory, step, *, answer="skip"):
    settings = Settings(steps=8, batch=2, non_finite=answer)
    images = images_from_arrays(np.zeros((8, 1, 1, 1), np.uint8))
    policy = nonfinite.NonFinitePolicy(directory, settings, images)
    policy.start(jax.random.key(0), step)
    return policy


@pytest.mark.parametrize("stop", [None, 3, 4, 5])
def test_skips_in_a_row_are_counted_over_a_stop_as_without_one(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(nonfinite, "MOST_SKIPPED", 3)
    policy = policy_at(tmp_path, 0)
    for step in (1, 3, 4, 5):
        policy(NonFiniteError(step, ["vae/loss"]))
    if stop is not None:  # killed after step 5, the last checkpoint at `stop`
        policy = policy_at(tmp_path, stop)
        for step in range(stop + 1, 6):
            policy(NonFiniteError(step, ["vae/loss"]))
    with pytest.raises(NonFiniteError, match="step 6"):
        policy(NonFiniteError(6, ["vae/loss"]))
    rows = [(row["step"], row["answer"]) for row in nonfinite.recorded_faults(tmp_path)]
    assert rows == [(1, "skip"), (3, "skip"), (4, "skip"), (5, "skip"), (6, "stop")]


def test_a_lost_row_changes_no_number_of_rollbacks(tmp_path):
    for step in (2, 3):
        policy = policy_at(tmp_path, 1, answer="rollback")
        with pytest.raises(NonFiniteError):
            policy(NonFiniteError(step, ["vae/loss"]))
    path = tmp_path / "faults.jsonl"
    assert [row["rollbacks"] for row in nonfinite.recorded_faults(tmp_path)] == [0, 1]
    path.write_text(path.read_text().splitlines(keepends=True)[1])
    assert policy_at(tmp_path, 1).rollbacks == 2


@pytest.mark.parametrize(
    "change",
    [{"images": 3}, {"key": ["x"]}, {"answer": []}, {"rollbacks": -1}, {"not_finite": [3]}],
)
def test_a_row_of_another_form_is_skipped_with_a_warning(tmp_path, caplog, change):
    policy_at(tmp_path, 0)(NonFiniteError(1, ["vae/loss"]))
    path = tmp_path / "faults.jsonl"
    (row,) = nonfinite.recorded_faults(tmp_path)
    with path.open("a") as file:
        file.write(files.row_line({**row, **change}))
        file.write("\xff\n")
    assert nonfinite.recorded_faults(tmp_path) == [row]
    assert "1 row(s) of another form are skipped" in caplog.text
    assert "1 damaged line(s) are skipped" in caplog.text
