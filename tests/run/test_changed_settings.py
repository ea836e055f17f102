"""A run that goes on with other settings: by consent, recorded, and as exact as any other."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genjax import data, run
from genjax.errors import ConfigError
from genjax.run import replay
from genjax.train.checkpoint import CheckpointError
from genjax.train.game import Aux, Player

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 1, 2, 1), np.uint8)
LABELS = np.arange(90) % 3
NAMES = ["a", "b", "c"]
IMAGES = data.from_arrays(PIXELS[:60], LABELS[:60], names=NAMES)
MORE = data.from_arrays(PIXELS, LABELS, names=NAMES)


def family(features=2):
    layer = nn.Dense(features)

    def init(key, before):
        return {"net": layer.init(key, jnp.zeros((1, 2)))}, {}

    def loss(params, state, keys, batch):
        x = batch["image"].reshape(-1, 2) / 255
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        return jnp.mean((layer.apply(params["net"], 0.1 * noise)[:, :2] - x) ** 2), Aux()

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(layer.apply(state.averaged()["net"], z)[:, :2]).reshape(-1, 1, 2, 1)

    def validate(state, keys, batch):
        return {"score": jnp.ones(len(keys)) + state.step}

    player = Player(loss, optax.adam(1e-2), ema=0.9)
    return run.Family({"net": player}, init, generate, latent=(2,), validate=validate)


FAMILY = family()


def untimed(restored):
    timings = {"images_per_second", "seconds"}
    return [{k: v for k, v in row.items() if k not in timings} for row in restored.metrics]


def trained(directory, steps, images=IMAGES, made=FAMILY, **more):
    how = {"batch": 8, "every": 2, "samples": 4, "devices": 1, "scan_steps": 2, **more}
    return run.train(made, images, run.Settings(steps, dir=str(directory), **how), name="x")


def changed(directory, steps, **more):
    """With half as many images more per step, of more images, scored at other steps."""
    return trained(directory, steps, MORE, batch=12, every=3, **more)


def config(directory):
    return json.loads((directory / "config.json").read_text())


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("original") / "run"
    trained(directory, 4)
    return directory


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_changes_need_consent_and_are_logged_and_recorded(directory, caplog):
    before = contents(directory)
    with pytest.raises(ConfigError, match=r"--run\.batch was 8, now 12.*--run\.allow-changes"):
        changed(directory, 7)
    assert contents(directory) == before
    changed(directory, 7, allow_changes=True)
    assert "changed from step 4 on: --run.batch was 8, now 12" in caplog.text
    assert "changed from step 4 on: the images was 54 of " in caplog.text
    values = config(directory)
    batch, images = values["changes"]
    assert batch == {"setting": "--run.batch", "before": 8, "after": 12, "stage": "", "step": 4}
    assert images["setting"] == "the images"
    assert images["after"] == f"81 of {MORE.train.fingerprint}"
    assert not values["config"]["run"]["allow_changes"]
    assert (values["config"]["run"]["batch"], values["images"]["count"]) == (12, 81)
    # Scores of the steps before remain, though they are no multiples of the other --run.every.
    rows = run.open(directory, FAMILY).metrics
    assert [row["step"] for row in rows if "test/score" in row] == [2, 6, 7]


def test_a_run_changed_and_then_interrupted_is_the_one_changed_and_not_interrupted(
    directory, tmp_path
):
    other = shutil.copytree(directory, tmp_path / "other")
    whole = changed(directory, 9, allow_changes=True)
    changed(other, 5, allow_changes=True)
    again = changed(other, 7, allow_changes=True)  # the flag is still in the command
    again = changed(other, 9)
    jax.tree.map(np.testing.assert_array_equal, whole.state, again.state)
    assert untimed(whole) == untimed(again)
    assert config(directory)["changes"] == config(other)["changes"]
    unchanged = trained(tmp_path / "unchanged", 9)
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, whole.state, unchanged.state)


def test_changes_add_up_and_the_card_of_an_export_shows_them(directory, tmp_path):
    trained(directory, 5, allow_changes=True, seed=3)
    result = trained(directory, 6, allow_changes=True, seed=4)
    found = [
        (change["before"], change["after"], change["stage"], change["step"])
        for change in result.values["changes"]
    ]
    assert found == [(0, 3, "", 4), (3, 4, "", 5)]
    folder = result.export(tmp_path / "export")
    assert config(folder)["changes"] == result.values["changes"]
    card = (folder / "README.md").read_text()
    assert "- from step 5 on: `--run.seed was 3, now 4`\n" in card
    values = config(directory)
    values["changes"] += [7, {"setting": "`|", "before": 1, "after": 2, "stage": "", "step": -1}]
    (directory / "config.json").write_text(json.dumps(values))
    assert config(trained(directory, 6, seed=4).directory)["changes"] == result.values["changes"]


@pytest.mark.slow
def test_a_change_names_the_stage_that_is_under_way(tmp_path, caplog):
    directory = tmp_path / "run"
    first = replace(FAMILY, name="first", steps=4)
    made = replace(FAMILY, before=first)
    trained(directory, 2, made=replace(made, before=replace(first, steps=2)))
    shutil.rmtree(directory / "checkpoints")  # the second stage has not begun
    result = trained(directory, 4, made=made, seed=3, allow_changes=True)
    result = trained(directory, 6, made=made, seed=4, allow_changes=True)
    found = [(change["stage"], change["step"]) for change in result.values["changes"]]
    assert found == [("first", 2), ("", 4)]
    assert "changed from step 2 of first on: --run.seed was 0, now 3" in caplog.text
    card = (result.export(tmp_path / "export") / "README.md").read_text()
    assert "- from step 2 of `first` on: `--run.seed was 0, now 3`\n" in card


def test_what_does_not_fit_the_state_is_refused_before_anything_is_written(directory):
    before = contents(directory)
    with pytest.raises(CheckpointError, match=r"another architecture: .* here"):
        trained(directory, 6, made=family(3), seed=1, allow_changes=True)
    two = data.from_arrays(PIXELS[:60], LABELS[:60] % 2, names=["a", "b"])
    renamed = data.from_arrays(PIXELS[:60], LABELS[:60], names=["b", "a", "c"])
    for images, now in ((two, "a, b"), (renamed, "b, a, c")):
        with pytest.raises(ConfigError, match=f"same classes: they were a, b, c, now {now}$"):
            trained(directory, 6, images, allow_changes=True)
    assert contents(directory) == before
    with pytest.raises(ConfigError, match="the images are others"):
        trained(directory, 6, MORE)


def test_a_step_before_a_change_is_not_replayed_with_what_came_after_it():
    change = {"setting": "--run.batch", "before": 8, "after": 12, "stage": "", "step": 4}
    values = {"changes": [change, {**change, "stage": "first", "step": 9}]}
    replay.check_unchanged(values, 4)
    with pytest.raises(ConfigError, match=r"--run\.batch was changed at step 4, after the .* 3"):
        replay.check_unchanged(values, 3)
