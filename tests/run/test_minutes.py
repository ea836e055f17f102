"""Runs of some minutes: how many steps they are, and that these stay."""

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genjax import data, run
from genjax.errors import ConfigError
from genjax.run import minutes, trainer
from genjax.run.trainer import Trainer
from genjax.train.game import Aux, Player
from genjax.train.layout import DataParallel

LAYER = nn.Dense(1)
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 1, 1, 1), np.uint8)
IMAGES = data.from_arrays(PIXELS)


@dataclass(frozen=True)
class Config:
    run: run.Settings


def build(config, spec):
    """A family whose rate falls to 0 at the last step."""

    def init(key, before):
        return {"net": LAYER.init(key, jnp.zeros((1, 1)))}, {}

    def loss(params, state, keys, batch):
        x = batch["image"].reshape(-1, 1) / 255
        return jnp.mean((LAYER.apply(params["net"], x) - x) ** 2), Aux()

    rate = optax.linear_schedule(0.1, 0.0, config.run.steps)
    return run.Family({"net": Player(loss, optax.sgd(rate))}, init, None)


def of(directory, **more):
    how = {"steps": 1800, "every": 600, "minutes": 2, "batch": 8, "devices": 1, "scan_steps": 1}
    return run.Settings(**{**how, "dir": str(directory), **more})


def settled(settings, directory, usual=600, family=None):
    family = family or build(Config(settings), None)
    return minutes.settled(settings, family, IMAGES, directory, usual)


@pytest.fixture
def timed(monkeypatch):
    monkeypatch.setattr(Trainer, "steps_per_second", lambda self, seconds: 0.1)


def test_the_steps_fill_the_minutes_with_as_many_evaluations(timed, tmp_path, caplog):
    caplog.set_level("INFO", "genjax")
    found = settled(of(tmp_path), tmp_path)
    assert (found.steps, found.every, found.minutes) == (12, 4, 2)
    assert "12 steps in 2 minutes, at the 0.1 steps/s that were timed; evaluated every 4" in (
        caplog.text
    )
    assert settled(of(tmp_path, every=500), tmp_path).every == 500  # someone's choice
    assert settled(of(tmp_path, every=None), tmp_path, None).every is None
    assert settled(of(tmp_path, minutes=0.01), tmp_path).steps == 1
    without = of(tmp_path, minutes=None)
    assert settled(without, tmp_path) is without
    assert not list(tmp_path.iterdir())


def test_a_run_of_minutes_is_that_of_its_steps_and_resumes_as_it(timed, tmp_path, monkeypatch):
    def trained(name, **how):
        settings = of(tmp_path / name, **how)
        config, family = minutes.built(build, Config(settings), IMAGES, tmp_path / name, 600)
        return config.run, run.train(family, IMAGES, config.run)

    settings, one = trained("one")
    assert one.step == 12
    assert json.loads((tmp_path / "one" / "config.json").read_text())["config"]["run"] == {
        **vars(settings)
    }
    _, other = trained("other", steps=12, every=4, minutes=None)
    jax.tree.map(np.testing.assert_array_equal, one.state.params, other.state.params)

    def fails(self, seconds):
        raise AssertionError("timed again")

    monkeypatch.setattr(Trainer, "steps_per_second", fails)  # the steps stay on other machines
    again, _ = trained("one")
    assert (again.steps, again.every) == (12, 4)
    longer, run_of_longer = trained("one", minutes=3)
    assert (longer.steps, longer.every, run_of_longer.step) == (18, 4, 18)
    with pytest.raises(ConfigError, match=r"is a run of 12 steps, not of minutes"):
        trained("other")


def test_the_speed_is_that_of_the_steps_after_the_first_call(tmp_path, monkeypatch):
    seconds = itertools.count(5.0, 0.5)
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr(trainer, "time", clock)
    settings = of(tmp_path, scan_steps=3, every=300)
    family = build(Config(settings), None)
    how = (settings, IMAGES.train, IMAGES.test, DataParallel(1))
    rate = Trainer(family, None, Path(tmp_path / "x"), *how).steps_per_second(4.0)
    assert rate == 6  # 3 steps a call of half a second
    assert next(seconds) == 5 + 0.5 * 9  # read after the first call and the eight of 4 s


def test_what_cannot_be_timed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="several processes would time another speed"):
        settled(of(tmp_path, distributed=True), tmp_path)
    family = build(Config(of(tmp_path)), None)
    stages = replace(family, before=replace(family, name="autoencoder", steps=3))
    with pytest.raises(ConfigError, match="autoencoder and what builds on it have steps each"):
        settled(of(tmp_path), tmp_path, family=stages)
    with pytest.raises(ConfigError, match=r"run\.minutes"):
        of(tmp_path, minutes=0)
