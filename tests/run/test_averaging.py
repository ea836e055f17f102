"""Averages chosen when a run is used: those it keeps, of other lengths, and of earlier steps."""

from collections import OrderedDict
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import vae_fashion
from genjax import data, run
from genjax.errors import ConfigError
from genjax.run import averaging
from genjax.run.settings import Settings
from genjax.train.averages import Snapshot, post_hoc_coefficients, power_function
from tests.families import SPEC, batches

STEPS, EVERY = 40, 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that keeps all checkpoints, with a third average to compare with, and its family."""
    directory = tmp_path_factory.mktemp("run")
    batch = jax.tree.map(lambda x: x[0], batches(1))
    images = data.from_arrays(batch["image"], batch["label"], test=(batch["image"], batch["label"]))
    kept = {"0.05": 0.05, "0.1": 0.1, "third": 0.07}
    ema = {name: power_function(length) for name, length in kept.items()}
    settings = Settings(
        steps=STEPS, batch=8, every=EVERY, samples=2, devices=1, dir=str(directory), keep="all"
    )
    config = vae_fashion.Config(latent=2, hidden=4, learning_rate=0.02, run=settings)
    family = vae_fashion.build(config, replace(SPEC, classes=0))
    game = {name: replace(player, ema=ema) for name, player in family.game.items()}
    family = replace(family, game=game)
    run.train(family, images, settings)
    return directory, family


def ravelled(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def opened(trained, **chosen):
    directory, family = trained
    return run.open(directory, family, **chosen).state


def test_a_kept_average_is_chosen_by_name_and_the_first_is_the_default(trained):
    kept = opened(trained).ema["vae"]
    assert list(kept) == ["0.05", "0.1", "third"]
    np.testing.assert_array_equal(ravelled(opened(trained).averaged()), ravelled(kept["0.05"]))
    for name in kept:
        chosen = opened(trained, average=name).averaged()
        np.testing.assert_array_equal(ravelled(chosen["vae"]), ravelled(kept[name]))


def test_an_export_is_of_the_chosen_average_and_says_which(trained, tmp_path):
    directory, family = trained
    for name, said in ((None, "these are the\naverage."), ("third", "moving average `third`;")):
        folder = run.open(directory, family, average=name).export(tmp_path / f"{name}")
        values, exported = run.load_weights(folder)
        wanted = opened(trained, average=name).averaged()
        np.testing.assert_array_equal(ravelled(exported["params"]), ravelled(wanted))
        assert values["export"]["average"] == name
        assert said in (folder / "README.md").read_text()


def test_an_average_of_another_length_is_made_of_the_checkpoints(trained, caplog):
    caplog.set_level("INFO")
    exact = ravelled(opened(trained).ema["vae"]["third"])
    found = ravelled(opened(trained, average="0.07").averaged()["vae"])
    others = [ravelled(opened(trained).ema["vae"][name]) for name in ("0.05", "0.1")]
    error = np.linalg.norm(found - exact)
    assert error < 0.1 * min(np.linalg.norm(other - exact) for other in others)
    assert "average of length 0.07: made of 16 of 8 checkpoints" in caplog.text


def test_averages_of_an_earlier_checkpoint(trained):
    early = opened(trained, step=10).ema["vae"]
    for wanted, name in (("@10", "0.05"), ("0.1@10", "0.1")):
        chosen = opened(trained, average=wanted)
        np.testing.assert_array_equal(ravelled(chosen.averaged()["vae"]), ravelled(early[name]))
        assert int(chosen.step) == STEPS
    made = ravelled(opened(trained, average="0.07@10").averaged()["vae"])
    again = ravelled(opened(trained, step=10, average="0.07").averaged()["vae"])
    np.testing.assert_array_equal(made, again)


def test_a_weak_model_is_beside_the_chosen_one(trained):
    state = opened(trained, average="0.1", weak="@10")
    assert isinstance(state.ema["vae"], OrderedDict)
    strong, weak = state.averaged()["vae"], state.averaged("weak")["vae"]
    np.testing.assert_array_equal(ravelled(strong), ravelled(opened(trained).ema["vae"]["0.1"]))
    early = opened(trained, step=10).ema["vae"]["0.05"]
    np.testing.assert_array_equal(ravelled(weak), ravelled(early))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("0.2x", "--average 0.2x: this run keeps the averages 0.05, 0.1, third, or a length"),
        ("@7", "--average @7: there are checkpoints of the steps 40, 35, 30"),
        ("0.1@", "--average 0.1@: write the step's number behind @"),
        ("1e3", "--average 1e3: this run keeps"),
    ],
)
def test_an_average_that_is_not_there_is_one_line(trained, wanted, message):
    with pytest.raises(ConfigError, match=message):
        opened(trained, average=wanted)


def test_a_run_of_one_average_has_no_names(trained, tmp_path):
    state = opened(trained)
    one = replace(state, ema={"vae": state.ema["vae"]["0.1"]})
    assert averaging.choose(one, tmp_path, one, average=None, weak=None) is one
    with pytest.raises(ConfigError, match="keeps one average; name a step, as @STEP"):
        averaging.choose(one, tmp_path, one, average="0.1", weak=None)
    none = replace(state, ema={})
    with pytest.raises(ConfigError, match=r"--average 0\.1: this run keeps no average"):
        averaging.choose(none, tmp_path, none, average="0.1", weak=None)


def test_the_distance_is_that_of_the_weights_over_the_steps():
    parts = [Snapshot(50, 0.1, None), Snapshot(100, 0.1, None)]
    assert averaging.distance(parts, np.array([0.0, 1.0]), parts[1]) == 0
    assert averaging.distance(parts, np.array([0.0, 0.5]), parts[1]) == pytest.approx(0.5)
    few = [Snapshot(100, length, None) for length in (0.05, 0.1)]
    many = [*few, *(Snapshot(t, s, None) for t in range(10, 100, 10) for s in (0.05, 0.1))]
    wanted = Snapshot(100, 0.07, None)
    far, near = (
        averaging.distance(these, post_hoc_coefficients(these, 100, 0.07), wanted)
        for these in (few, many)
    )
    assert near < 0.5 * far < 0.2
