"""Runs from Python: trained, resumed, opened, exported and loaded without a command line."""

import json
import logging
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genjax import data, run
from genjax.cli import list_runs
from genjax.cli.main import main
from genjax.errors import ConfigError
from genjax.run import trainer
from genjax.train.game import Aux, Player
from tests.logged import untimed

LAYER = nn.Dense(2)


def family(*, scale=1.0, **more):
    """Images whose two pixels' brightness is a linear function of two numbers."""

    def init(key, before):
        return {"net": LAYER.init(key, jnp.zeros((1, 2)))}, {}

    def loss(params, state, keys, batch):
        x = batch["image"].reshape(-1, 2) / 255
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        error = LAYER.apply(params["net"], 0.1 * noise) - scale * x
        return jnp.mean(error**2), Aux()

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(LAYER.apply(state.averaged()["net"], z)).reshape(-1, 1, 2, 1)

    game = {"net": Player(loss, optax.adam(1e-2), ema=0.9)}
    return run.Family(game, init, generate, **{"latent": (2,), **more})


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 2, 1), np.uint8)
    return data.from_arrays(pixels, np.arange(60) % 3, names=["a", "b", "c"])


@pytest.fixture
def settings(tmp_path):
    return run.Settings(
        steps=4,
        batch=8,
        every=2,
        log=1,
        samples=4,
        devices=1,
        scan_steps=1,
        dir=str(tmp_path / "mine"),
    )


def replaced(settings, **changes):
    return run.Settings(**{**vars(settings), **changes})


def test_training_prints_nothing_and_resumes_exactly(images, settings, tmp_path, capfd):
    uninterrupted = run.train(family(), images, settings)
    parts = replaced(settings, dir=str(tmp_path / "parts"))
    run.train(family(), images, replaced(parts, steps=2))
    again = run.train(family(), images, parts)
    assert capfd.readouterr() == ("", "")
    assert (uninterrupted.step, again.step) == (4, 4)
    jax.tree.map(np.testing.assert_array_equal, uninterrupted.state, again.state)
    assert [row["step"] for row in again.metrics] == [1, 2, 3, 4]
    assert untimed(again.metrics) == untimed(uninterrupted.metrics)


def test_rows_depend_neither_on_stops_nor_on_the_evaluations(images, settings, tmp_path):
    """Train rows at 3 and at the end, 4; evaluations after every second step, or at the end."""
    uninterrupted = run.train(family(), images, replaced(settings, log=3))
    parts = replaced(settings, log=3, every=4, dir=str(tmp_path / "parts"))
    run.train(family(), images, replaced(parts, steps=2))
    again = run.train(family(), images, parts)
    assert [row["step"] for row in again.metrics] == [3, 4]
    assert untimed(again.metrics) == untimed(uninterrupted.metrics)


def test_the_first_images_come_early_and_change_no_bit(
    images, settings, tmp_path, caplog, monkeypatch
):
    early = replaced(settings, steps=20, every=20)
    with caplog.at_level(logging.INFO, "genjax"):
        result = run.train(family(), images, early)
    path = tmp_path / "mine" / "samples" / "step_2.png"
    assert f"first images, of step 2: {path}" in caplog.messages
    parts = replaced(early, dir=str(tmp_path / "parts"))
    run.train(family(), images, replaced(parts, steps=1))
    assert untimed(run.train(family(), images, parts).metrics) == untimed(result.metrics)
    assert (tmp_path / "parts" / "samples" / "step_2.png").read_bytes() == path.read_bytes()
    monkeypatch.setattr(trainer, "first_images", lambda *_: None)
    plain = run.train(family(), images, replaced(early, dir=str(tmp_path / "plain")))
    assert not (tmp_path / "plain" / "samples" / "step_2.png").exists()
    jax.tree.map(np.testing.assert_array_equal, plain.state, result.state)


def test_train_and_test_of_a_step_are_one_row_of_a_table(images, settings):
    def validate(state, keys, batch):
        return {"error": jnp.full(len(keys), 2.0)}

    rows = run.train(family(validate=validate), images, settings).metrics
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row.get("test/error") for row in rows] == [None, 2.0, None, 2.0]
    assert all(row["net/loss"] > 0 and row["seconds"] > 0 for row in rows)


def test_training_in_a_thread_does_not_change_signal_handlers(images, settings):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(run.train(family(), images, settings).step)
    )
    thread.start()
    thread.join()
    assert found == [4]


def test_a_run_is_opened_exported_and_loaded_with_the_same_samples(images, settings, tmp_path):
    result = run.train(family(), images, settings)
    samples = result.sample(5, seed=3)
    assert (samples.dtype, samples.shape) == (np.uint8, (5, 1, 2, 1))
    opened = run.open(settings.dir, family())
    loaded = run.load(opened.export(tmp_path / "model", "mit"), family())
    for other in (opened, loaded):
        np.testing.assert_array_equal(other.sample(5, seed=3), samples)
        np.testing.assert_array_equal(other.sample(3, seed=3), samples[:3])
    assert loaded.is_export
    assert not opened.is_export
    card = (tmp_path / "model" / "README.md").read_text()
    assert 'run.load("model", family)' in card
    assert "python " not in card.replace("```python", "")


def test_a_python_run_appears_in_the_listing(images, settings, capsys):
    run.train(family(), images, settings)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        list_runs.main([settings.dir])
    assert stop.value.code == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:6] == ["mine", "mine", "4", "of", "4", "finished"]


def test_a_script_of_the_runs_name_samples_from_it(images, settings, capsys, tmp_path):
    run.train(family(), images, settings)
    config = run.Config(run.Settings(1, 1), data.DataSettings())
    main("mine", "", config, lambda config, spec: family(), arguments=["sample", settings.dir])
    assert "64 images" in capsys.readouterr().out
    assert (tmp_path / "mine" / "sample_0.png").exists()


def test_a_run_that_is_finished_says_that_nothing_was_trained(images, settings, caplog):
    run.train(family(), images, settings)
    assert caplog.records == []
    run.train(family(scale=2.0), images, settings)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "already at step 4 of 4" in record.getMessage()


def test_a_run_without_a_place_is_refused(images):
    with pytest.raises(ConfigError, match="give the run a directory"):
        run.train(family(), images, run.Settings(steps=1, batch=8))


def test_another_run_in_the_directory_raises(images, settings):
    run.train(family(), images, settings)
    with pytest.raises(ConfigError, match="seed was 0, now 1"):
        run.train(family(), images, replaced(settings, seed=1))
    other = data.from_arrays(np.zeros((60, 1, 2, 1), np.uint8))
    with pytest.raises(ConfigError, match="the images are others"):
        run.train(family(), other, settings)


def test_training_is_logged(images, settings, caplog):
    with caplog.at_level(logging.INFO, "genjax"):
        run.train(family(), images, settings)
    assert any("6 parameters of net" in message for message in caplog.messages)
    assert any("step      4 of 4" in message for message in caplog.messages)


def test_the_config_of_a_python_run_is_data(images, settings, tmp_path):
    run.train(family(), images, settings, name="pixels")
    values = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert values["experiment"] == "pixels"
    assert values["config"]["run"]["steps"] == 4
    assert values["config"]["data"]["name"] == "arrays"
    assert values["images"]["shape"] == [1, 2, 1]
    assert values["images"]["classes"] == 3


def test_a_family_can_draw_its_latents_and_reconstruct_images(images, settings, tmp_path):
    def draw(key, n):  # codebook indices and a gain, as a tree
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
        index = jax.vmap(lambda k: jax.random.randint(k, (2,), 0, 2))(keys)
        return {"index": index, "gain": jnp.full((n, 1), 0.5)}

    def generate(state, keys, z, label):
        return (z["index"] * z["gain"]).reshape(-1, 1, 2, 1)

    def reconstruct(state, keys, images):
        return images[:, :, ::-1] / 255

    made = family(latent=None, draw=draw, reconstruct=reconstruct)
    result = run.train(run.Family(**{**vars(made), "generate": generate}), images, settings)
    samples = result.sample(6, seed=1)
    assert set(np.unique(samples)) == {0, 128}
    np.testing.assert_array_equal(result.sample(2, seed=1), samples[:2])
    originals = result.held_out(5)
    np.testing.assert_array_equal(result.reconstruct(originals), originals[:, :, ::-1])
    assert (tmp_path / "mine" / "samples" / "reconstructions_4.png").exists()
    with pytest.raises(ConfigError, match=r"not drawn from N\(0, I\): no arc"):
        result.interpolate(2)


def test_a_family_defines_either_latent_or_draw():
    for wrong in ({"latent": None}, {"draw": lambda key, n: None}):
        with pytest.raises(ConfigError, match="latent shape or a function"):
            family(**wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.sample(0), "at least 1"),
        (lambda r: r.sample(2, label=0), "not a class"),
        (lambda r: r.reconstruct(r.held_out(2)), "no encoder"),
        (lambda r: r.evaluate(), "no scores beyond"),
        (lambda r: r.export(r.directory), "there already"),
    ],
)
def test_unsupported_requests_raise_with_one_line(images, settings, call, message):
    result = run.train(family(), images, replaced(settings, steps=0))
    with pytest.raises(ConfigError, match=message) as raised:
        call(result)
    assert "\n" not in str(raised.value)


def test_opening_a_folder_that_is_no_run_raises(tmp_path):
    with pytest.raises(ConfigError, match="no run directory"):
        run.open(tmp_path, family())
    with pytest.raises(ConfigError, match="no run directory"):
        run.load(tmp_path, family())


def test_the_images_of_a_run_of_arrays_must_be_given_again(images, settings):
    run.train(family(), images, settings)
    with pytest.raises(data.DataError, match="came as arrays"):
        run.open(settings.dir, family()).held_out(2)
    given = run.open(settings.dir, family(), images).held_out(2)
    assert given.shape == (2, 1, 2, 1)
