"""A run directory: locked, resumed by what settings mean, started afresh without a loss."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from PIL import Image

from genjax import data, run
from genjax.cli import list_runs
from genjax.errors import ConfigError
from genjax.run import export as exports
from genjax.run import lock
from genjax.run.config import differences
from genjax.train import weights
from genjax.train.checkpoint import CheckpointError, Checkpoints
from genjax.train.digests import sha256
from genjax.train.game import Aux, Player

NAN = float("nan")
LAYER = nn.Dense(4)


def family(side=2):
    def init(key, before):
        return {"net": LAYER.init(key, jnp.zeros((1, 2)))}, {}

    def loss(params, state, keys, batch):
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        x = batch["image"].reshape(len(noise), -1)[:, :4] / 255
        return jnp.mean((LAYER.apply(params["net"], noise) - x) ** 2), Aux()

    def generate(state, keys, z, label):
        return jnp.zeros((len(z), side, side, 1))

    return run.Family({"net": Player(loss, optax.adam(1e-2))}, init, generate, latent=(2,))


FAMILY = family()
IMAGES = data.from_arrays(np.random.default_rng(0).integers(0, 256, (40, 2, 2, 1), np.uint8))


def trained(directory, steps=2, images=IMAGES, made=FAMILY, **more):
    how = {"batch": 8, "every": 1, "samples": 4, "devices": 1, "scan_steps": 1, **more}
    return run.train(made, images, run.Settings(steps, dir=str(directory), **how))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("original") / "run"
    trained(directory)
    return directory


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Which checkpoints are kept, and the use of one of them.


def test_all_checkpoints_are_kept_until_another_number_is_asked_for(tmp_path, capfd):
    directory = tmp_path / "run"

    def kept():
        return Checkpoints(directory / "checkpoints", read_only=True).steps()

    trained(directory, 4, keep="all")
    assert kept() == [1, 2, 3, 4]
    trained(directory, 5)  # the same run, which says no more how many
    trained(directory, 6)
    assert kept() == [1, 2, 3, 4, 5, 6]
    assert json.loads((directory / "config.json").read_text())["config"]["run"]["keep"] == "all"

    third = run.open(directory, FAMILY, step=3)
    assert third.step == 3
    resumed = Checkpoints(directory / "checkpoints").restore(third.state, step=3)
    jax.tree.map(np.testing.assert_array_equal, third.state, resumed)
    with pytest.raises(ConfigError, match=r"--step 9: .* of the steps 6, 5, 4, 3, 2, 1$"):
        run.open(directory, FAMILY, step=9)
    with pytest.raises(ConfigError, match="--best and --step name two checkpoints"):
        run.open(directory, FAMILY, step=3, best=True)
    with pytest.raises(ConfigError, match=r"no checkpoint in .* has a score: leave out --best"):
        run.open(directory, FAMILY, best=True)
    damaged = next((directory / "checkpoints" / "3" / "state").rglob("manifest*"))
    damaged.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"the checkpoint of step 3 in .* cannot be used"):
        run.open(directory, FAMILY, step=3)

    trained(directory, 7, keep=3)
    assert kept() == [5, 6, 7]
    trained(directory, 8, fresh=True)
    assert kept() == [7, 8]


# The lock.

HOLDER = """
import sys, time
from pathlib import Path
from genjax.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_ends_even_by_kill_9(directory):
    before = contents(directory)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, directory], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        named = rf"in use by process {holder.pid} on {socket.gethostname()} since \d{{4}}-.* UTC: "
        with pytest.raises(ConfigError, match=named):
            trained(directory, steps=3)
        assert run.open(directory, FAMILY).step == 2  # a reader needs no lock
        os.kill(holder.pid, signal.SIGKILL)
    found = contents(directory)
    assert json.loads(found["lock"])["process"] == holder.pid
    assert {**found, "lock": b""} == before
    assert trained(directory, steps=3).step == 3
    assert contents(directory)["lock"] == b""


def test_two_threads_of_one_process_exclude_each_other(directory):
    with lock.locked(directory), pytest.raises(ConfigError, match=f"process {os.getpid()} "):
        trained(directory)


def test_a_lock_that_another_host_left_is_mentioned(directory, caplog):
    (directory / "lock").write_text(json.dumps({"host": "else\x1bwhere", "process": 3}))
    with lock.locked(directory):
        assert "a process on else?where held" in caplog.text


def test_a_file_system_without_locks_is_used_with_a_warning(directory, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert trained(directory, steps=3).step == 3
    assert "cannot be locked (No locks available): make sure that no other" in caplog.text


def test_a_planted_link_is_not_written_through(directory, tmp_path):
    (tmp_path / "precious").write_text("mine")
    (directory / "lock").unlink()
    (directory / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="cannot write"):
        trained(directory, steps=3)
    assert (tmp_path / "precious").read_text() == "mine"


# Damage, and starting afresh.


def test_with_all_checkpoints_damaged_nothing_starts_but_by_fresh_and_nothing_is_lost(
    directory, capsys
):
    for step in (1, 2):
        (directory / "checkpoints" / str(step) / "state" / "manifest.ocdbt").write_bytes(b"")
    before = contents(directory)
    before.pop("config.json")  # says where it is
    with pytest.raises(CheckpointError, match=r"can be used \(1, 2\): .* --run.fresh"):
        trained(directory)
    found = contents(directory)
    assert {name: found[name] for name in before} == before
    assert found.keys() == {*before, "config.json"}
    assert trained(directory, fresh=True, seed=3).step == 2
    assert contents(directory / "earlier") == {k: v for k, v in found.items() if k != "lock"}
    assert not json.loads((directory / "config.json").read_text())["config"]["run"]["fresh"]
    trained(directory, fresh=True, seed=3)
    assert sorted(p.name for p in directory.glob("earlier*")) == ["earlier", "earlier-2"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        list_runs.main([str(directory)])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert [n for n in names if n.startswith(("run", "earlier"))][1:] == [
        "run",
        "earlier",
        "earlier-2",
    ]


def test_fresh_in_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty"):
        trained(tmp_path, fresh=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


# What a resumed run is compared by.


def test_a_folder_is_known_by_its_images_not_by_its_path(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    for i in range(20):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), 10 * i).save(folder / "ab"[i % 2] / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "moved")
    for n, spelled in enumerate(("images", "images/", "./images", folder, "moved"), 1):
        images = data.folder(spelled, size=2, channels=1)
        assert trained(tmp_path / "run", steps=n, images=images).step == n
    values = json.loads((tmp_path / "run" / "config.json").read_text())
    assert values["config"]["data"]["folder"] == str(tmp_path / "moved")
    for path in (tmp_path / "moved" / "a").iterdir():
        Image.new("L", (2, 2), 255).save(path)
    with pytest.raises(ConfigError, match="the images are others"):
        trained(tmp_path / "run", images=data.folder("moved", size=2, channels=1))
    larger = data.folder("images", size=3, channels=1)
    with pytest.raises(ConfigError, match=r"--data\.size was 2, now 3"):
        trained(tmp_path / "run", images=larger, made=family(3))


def difference(old, new):
    return next(map(str, differences(old, new)), None)


def test_nan_is_nan_and_a_number_is_a_number():
    nan = float("nan")
    assert difference({"a": nan, "b": [nan, 1]}, {"a": nan, "b": [nan, 1.0]}) is None
    assert difference({"a": nan}, {"a": 1.0}) == "--a was nan, now 1.0"
    assert difference({"a": [nan, 1]}, {"a": [nan, 2]})


def test_a_change_of_jax_or_its_numbers_is_logged_and_recorded(directory, caplog):
    path = directory / "config.json"
    values = json.loads(path.read_text())
    now = values["jax"]
    assert now["version"] == jax.__version__
    assert (now["default_prng_impl"], now["enable_x64"]) == ("threefry2x32", False)
    values["jax"] = {"version": "0.0.1", "default_prng_impl": "rbg", "enable_x64": True}
    path.write_text(json.dumps(values))
    trained(directory)
    lines = [line for line in caplog.messages if line.startswith("jax's")]
    assert [line.split(" was ")[0] for line in lines] == [
        "jax's version",
        "jax's default prng impl",
        "jax's enable x64",
    ]
    assert json.loads(path.read_text())["jax"] == now


# Weights that are not finite, and an export whose step is no number.


def test_nothing_is_made_from_weights_that_are_not_finite(directory, tmp_path):
    good = run.open(directory, FAMILY)
    params = {"net": {"params": {**good.state.params["net"]["params"]}}}
    params["net"]["params"]["kernel"] = good.state.params["net"]["params"]["kernel"].at[0].set(NAN)
    checkpoints = Checkpoints(directory / "checkpoints")
    checkpoints.save(3, replace(good.state, step=jnp.int32(3), params=params))
    checkpoints.close()
    bad = run.open(directory, FAMILY)
    assert bad.step == 3
    message = r"at step 3 that are not finite \(params.net.params.kernel\)"
    before = contents(tmp_path)
    for make in (lambda: bad.sample(2), bad.interpolate, lambda: bad.export(tmp_path / "export")):
        with pytest.raises(ConfigError, match=message):
            make()
    assert contents(tmp_path) == before
    exports.write(tmp_path / "export", directory, bad.values, bad.state, "mit", "", None)
    with pytest.raises(ConfigError, match=message):
        run.load(tmp_path / "export", FAMILY).sample(2)
    assert (good.sample(2) == 0).all()


@pytest.mark.parametrize("step", ["9" * 5000, "-1", "\N{ARABIC-INDIC DIGIT ONE}", "1.0", ""])
def test_an_export_of_a_step_that_is_no_number_is_refused(directory, tmp_path, step):
    folder = run.open(directory, FAMILY).export(tmp_path / "export")
    tree, metadata = weights.load_nested(folder / "model.safetensors")
    weights.save(folder / "model.safetensors", tree, {**metadata, "step": step})
    values = json.loads((folder / "config.json").read_text())
    values["export"]["sha256"] = sha256(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="it names no step"):
        run.load(folder, FAMILY)
