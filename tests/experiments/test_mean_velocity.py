"""MeanFlow and shortcut models: one step, many steps, guidance that is learned, smooth times."""

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mean_velocity, meanflow, shortcut
from genjax import run
from genjax.data import ImageSpec, from_arrays
from genjax.run.config import as_json, parse
from tests import families
from tests.models.test_transformer import spread

KEY = jax.random.key(0)
SPEC = ImageSpec((8, 8, 1), 3, 100)
SMALL = {"width": 16, "depth": 2, "heads": 2}
MODULES = [meanflow, shortcut]


def made(module, **settings):
    """A family and a state of random parameters."""
    family = module.build(module.Config(**SMALL, **settings), SPEC)
    state = jax.eval_shape(family.first_state, KEY, None)
    params = spread(state.params, 0.1)
    return family, state.replace(params=params, ema=params)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("module", "output"),
    [pytest.param(meanflow, "velocity", marks=pytest.mark.slow), (shortcut, "data")],
)
def test_an_image_is_the_noise_less_the_mean_velocity_and_the_last_of_its_trajectory(
    module, output
):
    family, state = made(module, sampling_steps=2, output=output)
    z = jax.random.normal(KEY, (3, 8, 8, 1))
    drawn, shown = jax.jit(
        lambda s: (family.generate(s, None, z, None), family.trajectory(s, None, z, None))
    )(state)
    network = module.Config(**SMALL).transformer(spans=True)

    def u(z, t):
        params = state.ema[mean_velocity.NAME]
        found = network.apply(params, z, jnp.full(3, t), span=jnp.full(3, 0.5))
        return (z - found) / t if output == "data" else found

    half = z - 0.5 * u(z, 1.0)
    np.testing.assert_allclose(2 * drawn - 1, half - 0.5 * u(half, 0.5), rtol=1e-4, atol=1e-4)
    assert shown.shape == (3, 4, 8, 8, 1)  # noise, 32 and 8 steps, and the two asked for
    np.testing.assert_allclose(shown[:, -1], drawn, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shown[:, 0], (z + 1) / 2, rtol=1e-6)


def test_a_run_of_before_there_was_a_choice_predicts_the_velocity():
    values = as_json(dataclasses.asdict(meanflow.Config()))
    del values["output"]
    assert meanflow.Config().output == "data"
    assert parse(meanflow.Config, values, "config.json").output == "velocity"


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_guidance_changes_what_is_learned_and_not_what_a_step_costs(module):
    batch = {"image": jnp.zeros((8, 8, 8, 1), jnp.uint8), "label": jnp.arange(8) % 3}
    keys = jax.random.split(KEY, 8)

    def loss(guidance):
        settings = {"every": 2, "max_steps": 4} if module is shortcut else {}
        family, state = made(module, classes=True, guidance=guidance, **settings)
        loss = family.game[mean_velocity.NAME].loss
        return jax.jit(lambda s: loss(s.params, s, keys, batch)[0])(state)

    assert abs(loss(1.0) - loss(4.0)) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_one_step_comes_near_many_and_the_network_stays_smooth_in_time(module, tmp_path):
    grey = families.batches(8)["image"][..., :1].reshape(-1, 8, 8, 1)
    images = from_arrays(grey[:112], test=grey[112:])
    steps, small = 1200, {"width": 64, "depth": 3, "heads": 2, "patch": 2, "warm_up": 50}

    def trained(n, place):
        config = module.Config(**small, ema=0.98)
        settings = replace(config.run, steps=n, batch=16, every=steps, samples=4, devices=1)
        settings = replace(settings, dir=str(tmp_path / place))
        return run.train(module.build(replace(config, run=settings), images.spec), images, settings)

    def gap(of):
        scores = of.family.measure.scores
        keys = jax.random.split(KEY, 16)
        return float(jax.jit(scores)(of.state, keys, {"image": grey[112:]})["one_step"].mean())

    short, long = trained(60, "short"), trained(steps, "long")
    assert gap(long) < 0.5 * gap(short)
    network = module.Config(**small).transformer(spans=True)
    params = long.state.ema[mean_velocity.NAME]
    z, t = jax.random.normal(KEY, (64, 8, 8, 1)), jnp.linspace(0.02, 0.98, 64)

    def at(t):
        return network.apply(params, z, t, span=0.01 * t**0)

    slope = jax.jit(lambda t: jax.jvp(at, (t,), (t**0,))[1])(t)
    # At a scale of 1,000 it is some hundred.
    assert jnp.sqrt(jnp.square(slope).mean()) < 10
