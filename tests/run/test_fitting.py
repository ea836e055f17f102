"""As few microbatches as fit into a device's memory, and the same again when a run resumes."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import vae_fashion, vqvae
from genjax import data
from genjax.errors import ConfigError
from genjax.run import fitting, minutes, training
from genjax.run.checks import layout_of
from genjax.run.settings import Settings
from genjax.train.layout import LayoutError
from genjax.train.optimizers import Optimizer

RNG = np.random.default_rng(0)
IMAGES = data.from_arrays(RNG.integers(0, 256, (520, 8, 8, 1), np.uint8))
AUTO = Optimizer(microbatches="auto")


def config(directory, batch=512, **run):
    how = {"samples": 2, "every": 2, "devices": 1, "dir": str(directory), **run}
    run = Settings(steps=2, batch=batch, **how)
    return vae_fashion.Config(latent=2, hidden=256, run=run, optimizer=AUTO)


def needed(directory, n):
    one = fitting._with(config(directory), n)
    family = vae_fashion.build(one, IMAGES.spec)
    return fitting._needed(family, one.run, IMAGES, directory)


def fitted(config, directory):
    return fitting.fitted(vae_fashion.build, config, IMAGES, directory)


@pytest.fixture
def memory(monkeypatch):
    def of_a_device(bytes):
        monkeypatch.setattr(fitting, "device_memory", lambda: bytes)

    return of_a_device


@pytest.fixture
def known(monkeypatch):
    """What a step takes, {microbatches: bytes}, without compiling it."""
    each = {1: 900.0, 2: 540.0, 4: 450.0}

    def of(family, settings, images, directory):
        layout_of(settings, family, directory)
        return each[family.game["vae"].microbatches]

    monkeypatch.setattr(fitting, "_needed", of)


def test_a_step_of_more_slices_takes_less(tmp_path):
    one, two, four = (needed(tmp_path, n) for n in (1, 2, 4))
    assert one > two > four


def test_the_fewest_slices_that_fit_are_taken(tmp_path, memory, known):
    for bytes, n in ((1000, 1), (999, 2), (600, 2), (599, 4), (None, 1)):
        memory(bytes)
        found = fitted(config(tmp_path), tmp_path)
        assert found == replace(config(tmp_path), optimizer=Optimizer(microbatches=n))


def test_a_number_stays_as_it_is(tmp_path, memory):
    memory(1)
    given = replace(config(tmp_path), optimizer=Optimizer(microbatches=2))
    assert fitted(given, tmp_path) is given


def test_what_never_fits_and_who_would_not_agree_is_refused_in_a_line(tmp_path, memory, known):
    memory(100)
    with pytest.raises(ConfigError, match=r"a step takes .* GB on a device .* however it is cut"):
        fitted(config(tmp_path, batch=4), tmp_path)
    with pytest.raises(ConfigError, match="each of several processes"):
        fitted(config(tmp_path, distributed=True), tmp_path)
    with pytest.raises(LayoutError, match=r"--run\.batch 3 does not divide over 2 devices"):
        fitted(config(tmp_path, batch=3, devices=2), tmp_path)
    two = vqvae.Config(run=config(tmp_path).run, optimizer=AUTO)
    with pytest.raises(
        ConfigError, match=r"microbatches auto: .* what builds on it have one number"
    ):
        fitting.fitted(vqvae.build, two, IMAGES, tmp_path)
    with pytest.raises(ConfigError, match="microbatches auto is for the command that trains"):
        vae_fashion.build(config(tmp_path), IMAGES.spec)


def test_a_run_keeps_its_number_and_a_fresh_one_finds_another(tmp_path, memory, known):
    directory = tmp_path / "run"
    directory.mkdir()
    memory(599)
    given, family = minutes.built(vae_fashion.build, config(directory), IMAGES, directory, None)
    assert family.game["vae"].microbatches == 4
    training.train_in(directory, "vae_fashion", given, family, IMAGES, {})
    memory(None)
    assert fitted(config(directory), directory) == given
    fresh = config(directory, fresh=True)
    assert fitted(fresh, directory).optimizer.microbatches == 1


def test_a_compiler_that_runs_out_of_memory_needs_too_much(tmp_path, memory, monkeypatch):
    def memory_of(self):
        (player,) = self.family.game.values()
        if player.microbatches < 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nat length")
        return 10

    monkeypatch.setattr(fitting.Trainer, "memory", memory_of)
    memory(100)
    assert fitted(config(tmp_path), tmp_path).optimizer.microbatches == 4

    def other(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(fitting.Trainer, "memory", other)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        fitted(config(tmp_path), tmp_path)


def test_where_the_compiler_does_not_tell_a_number_is_asked_for(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(fitting.Trainer, "memory", lambda self: None)
    memory(100)
    with pytest.raises(ConfigError, match="does not tell what a step takes; give a number"):
        fitted(config(tmp_path), tmp_path)
