"""Runs that start from the weights of another run or of an export."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genjax import data, run
from genjax.errors import ConfigError
from genjax.train.digests import sha256
from genjax.train.game import Aux, Player

IMAGES = data.from_arrays(np.random.default_rng(0).integers(0, 256, (60, 1, 2, 1), np.uint8))


def family(players=("net",), features=2, ema=0.9, before=None, name="", steps=None):
    """Each player learns the images' mean, and counts its batches."""
    layer = nn.Dense(features)

    def init(key, before):
        keys = dict(zip(players, jax.random.split(key, len(players)), strict=True))
        own = {player: layer.init(keys[player], jnp.zeros((1, 2))) for player in players}
        frozen = (before.params, before.variables) if before else ({}, {})
        counts = {player: {"count": jnp.zeros(())} for player in players}
        return {**frozen[0], **own}, {**frozen[1], **counts}

    def player(name):
        def loss(params, state, keys, batch):
            x = batch["image"].reshape(-1, 2) / 255
            noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
            error = layer.apply(params[name], 0.1 * noise)[:, :2] - x
            count = {"count": state.variables[name]["count"] + 1.0}
            return jnp.mean(error**2), Aux({}, {name: count})

        return Player(loss, optax.adam(1e-2), ema=ema)

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(z).reshape(-1, 1, 2, 1)

    game = {name: player(name) for name in players}
    more = {"before": before, "name": name, "steps": steps}
    return run.Family(game, init, generate, latent=(2,), **more)


FAMILY = family()
STAGES = family(("prior",), before=family(("net",), name="first", steps=2))


def untimed(restored):
    timings = {"images_per_second", "seconds"}
    return [{k: v for k, v in row.items() if k not in timings} for row in restored.metrics]


def trained(directory, steps=2, made=FAMILY, **more):
    how = {"batch": 8, "every": 2, "samples": 4, "devices": 1, "scan_steps": 2, **more}
    return run.train(made, IMAGES, run.Settings(steps, dir=str(directory), **how), name="x")


def config(directory):
    return json.loads((directory / "config.json").read_text())


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def differ(a, b):
    with pytest.raises(AssertionError):
        same(a, b)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("source") / "run"
    trained(directory, 4, seed=7)
    return directory


@pytest.fixture(scope="module")
def export(source):
    return run.open(source, FAMILY).export(source.parent / "export")


def test_a_run_starts_from_the_weights_of_another_and_needs_it_no_more(source, tmp_path, caplog):
    caplog.set_level("INFO", "genjax")
    copy, mine = shutil.copytree(source, tmp_path / "copy"), tmp_path / "mine"
    before = run.open(source, FAMILY).state
    start = trained(mine, 0, init_from=str(copy)).state
    same((start.params, start.variables, start.ema), (before.params, before.variables, before.ema))
    differ(start.params, start.ema)
    assert (int(start.step), int(before.step)) == (0, 4)
    fresh = trained(tmp_path / "other", 0).state
    same(start.opt_state, fresh.opt_state)
    differ(start.params, fresh.params)
    assert f"net: weights of step 4 of {copy}" in caplog.text

    uninterrupted = trained(tmp_path / "whole", 4, init_from=str(copy))
    trained(mine, 2, init_from=str(copy))
    shutil.rmtree(copy)
    trained(mine, 3, init_from=str(copy))  # the flag is still in the command
    resumed = trained(mine, 4)
    same(resumed.state, uninterrupted.state)
    assert untimed(resumed) == untimed(uninterrupted)
    record = config(mine)["init_from"]
    assert record == {
        "directory": str(copy),
        "experiment": "x",
        "step": 4,
        "sha256": sha256(source / "checkpoints" / "4" / "digests.json"),
        "export": False,
    }
    assert config(mine)["config"]["run"]["init_from"] == str(copy)
    folder = resumed.export(tmp_path / "export")
    assert config(folder)["init_from"] == {**record, "directory": "copy"}
    for text in (folder / "README.md", folder / "config.json"):
        assert str(tmp_path) not in text.read_text()
    card = (folder / "README.md").read_text()
    assert f"Started from the run `copy` of `x` at step 4, sha256 `{record['sha256']}`." in card


def test_a_run_starts_from_the_averages_of_an_export(source, export, tmp_path, caplog):
    caplog.set_level("INFO", "genjax")
    before = run.open(source, FAMILY).state
    start = trained(tmp_path / "mine", 0, init_from=str(export)).state
    same((start.params, start.ema, start.variables), (before.ema, before.ema, before.variables))
    assert "an export holds averages alone" in caplog.text
    record = config(tmp_path / "mine")["init_from"]
    assert record["sha256"] == sha256(export / "model.safetensors")
    assert record["export"]


def test_averages_that_are_not_there_start_as_the_parameters(source, tmp_path):
    made = family(ema={"short": 0.5, "long": 0.9})
    start = trained(tmp_path / "mine", 0, made, init_from=str(source)).state
    for average in start.ema["net"].values():
        same(average, run.open(source, FAMILY).state.params["net"])


def test_players_are_taken_by_their_names_in_stages_too(source, tmp_path, caplog):
    before = run.open(source, FAMILY).state
    result = trained(tmp_path / "mine", 0, STAGES, init_from=str(source))
    assert f"prior: not in {source}, drawn by the seed" in caplog.text
    first = config(tmp_path / "mine")
    assert first["init_from"]["step"] == 4
    # The first stage started there and went on; its result is what is frozen in the second.
    assert result.state.variables["net"]["count"] == 6
    differ(result.state.params["net"], before.params["net"])
    again = trained(tmp_path / "again", 0, STAGES, init_from=str(tmp_path / "mine" / "first"))
    assert again.state.variables["net"]["count"] == 8


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (family(features=3), r"another architecture: params\.net\.params\.bias is float32\[2\] th"),
        (family(("other",)), r"has weights of net, none of other"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    source, export, tmp_path, made, message
):
    for place in (source, export):
        with pytest.raises(ConfigError, match=message) as raised:
            trained(tmp_path / "mine", 0, made, init_from=str(place))
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="is no run with a checkpoint to use, and no export"):
        trained(tmp_path / "mine", 0, init_from=str(tmp_path / "nothing"))
    assert not (tmp_path / "mine").exists()
    assert not (tmp_path / "nothing").exists()


def test_weights_are_taken_at_the_start_alone(source, export, tmp_path):
    trained(tmp_path / "mine")
    message = r"--run\.init-from was None, now .*: a run takes weights at its start alone"
    for consent in (False, True):
        with pytest.raises(ConfigError, match=message):
            trained(tmp_path / "mine", 4, init_from=str(source), allow_changes=consent)
    assert "init_from" not in config(tmp_path / "mine")
    # By --run.fresh, even from the run that is there.
    before = run.open(tmp_path / "mine", FAMILY).state
    start = trained(tmp_path / "mine", 0, init_from=str(tmp_path / "mine"), fresh=True).state
    same(start.params, before.params)


def test_before_the_first_checkpoint_the_weights_must_still_be_there_and_the_same(source, tmp_path):
    copy, mine = shutil.copytree(source, tmp_path / "copy"), tmp_path / "mine"
    trained(mine, init_from=str(copy))
    shutil.rmtree(mine / "checkpoints")  # as if killed before the first
    expected = trained(tmp_path / "other", init_from=str(copy)).state
    shutil.rmtree(copy / "checkpoints" / "4")
    with pytest.raises(ConfigError, match="holds other weights than this run started from"):
        trained(mine)  # without the flag, which is recorded
    shutil.copytree(source / "checkpoints" / "4", copy / "checkpoints" / "4")
    same(trained(mine).state, expected)
