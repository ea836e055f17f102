"""Optimizers by settings: today's are the defaults, to the structure; no setting without effect."""

import json
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import (
    autoencoder_fashion,
    consistency,
    dcgan_fashion,
    ddpm_cifar10,
    ddpm_fashion,
    ddpm_mnist,
    dit,
    flow_cifar10,
    gan_fashion,
    iwae_mnist,
    latent_diffusion,
    latent_shapes,
    made,
    meanflow,
    pixelcnn,
    r3gan,
    restore_fashion,
    shortcut,
    stylegan,
    vae_cifar10,
    vae_fashion,
    vdvae,
    vqvae,
)
from genjax.data import ImageSpec
from genjax.errors import ConfigError
from genjax.run.config import as_json, parse
from genjax.train import layout
from genjax.train.optimizers import Optimizer, skipping
from genjax.train.rates import warm_up
from tests.families import FAMILIES

PARAMS = {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.array([0.1, 0.0])}
ADAM, CLIPPED = Optimizer(), Optimizer(clip=1.0)
DEFAULTS = {
    autoencoder_fashion: ADAM,
    vae_fashion: ADAM,
    gan_fashion: ADAM,
    dcgan_fashion: ADAM,
    latent_shapes: ADAM,
    made: ADAM,
    pixelcnn: ADAM,
    r3gan: ADAM,
    stylegan: ADAM,
    latent_diffusion: CLIPPED,
    iwae_mnist: ADAM,
    consistency: ADAM,
    vae_cifar10: ADAM,
    ddpm_fashion: CLIPPED,
    ddpm_mnist: CLIPPED,
    dit: CLIPPED,
    meanflow: CLIPPED,
    shortcut: CLIPPED,
    vqvae: CLIPPED,
    ddpm_cifar10: CLIPPED,
    flow_cifar10: CLIPPED,
    restore_fashion: CLIPPED,
    vdvae: Optimizer(clip=200.0),
}


def updated(rule, steps=3):
    """Parameters and state after a few steps of gradients that differ in length."""
    params, state = PARAMS, rule.init(PARAMS)
    for i in range(steps):
        grads = jax.tree.map(lambda x, i=i: (i + 1) * jnp.sin(3 * x), params)
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ADAM, lambda rate: optax.adam(rate)),
        (CLIPPED, lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))),
        (Optimizer("adamw"), lambda rate: optax.adamw(rate, weight_decay=1e-4)),
        (Optimizer("adamw", weight_decay=0.1), lambda rate: optax.adamw(rate, weight_decay=0.1)),
        (Optimizer("adamw", weight_decay=0.0), lambda rate: optax.adamw(rate, weight_decay=0.0)),
        (Optimizer("radam"), lambda rate: optax.radam(rate)),
        (Optimizer("sgd"), lambda rate: optax.sgd(rate)),
        (Optimizer("sgd", momentum=0.9), lambda rate: optax.sgd(rate, 0.9)),
        (Optimizer("rmsprop", momentum=0.9), lambda rate: optax.rmsprop(rate, momentum=0.9)),
        (Optimizer("lion"), lambda rate: optax.lion(rate, weight_decay=1e-3)),
        (Optimizer("lion", weight_decay=0.2), lambda rate: optax.lion(rate, weight_decay=0.2)),
    ],
)
def test_each_optimizer_is_that_of_optax_in_value_and_structure(settings, expected):
    for rate in (0.05, warm_up(0.1, 2)):
        assert_same(updated(settings.transformation(rate)), updated(expected(rate)))


def test_the_options_of_adam_reach_its_kin():
    for name, rule in (("adam", optax.adam), ("adamw", optax.adamw), ("radam", optax.radam)):
        ours = Optimizer(name).transformation(0.1, b1=0.5, eps=1e-3)
        assert_same(updated(ours), updated(rule(0.1, b1=0.5, eps=1e-3)))
    other = updated(Optimizer("sgd").transformation(0.1, b1=0.5))
    assert_same(other, updated(optax.sgd(0.1)))


def test_a_step_of_too_long_a_gradient_leaves_everything_as_it_was():
    rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))
    ours = skipping(rule, 5.0)
    params, state = updated(rule)
    assert_same(ours.init(PARAMS), rule.init(PARAMS))
    zeros = jax.tree.map(jnp.zeros_like, params)

    def step(rule, length):
        grads = {**zeros, "bias": jnp.array([0.6, 0.8]) * length}
        updates, after = jax.jit(rule.update)(grads, state, params)
        return optax.apply_updates(params, updates), after

    for length in (0.1, 4.99):
        assert_same(step(ours, length), step(rule, length))
        assert not np.array_equal(step(ours, length)[0]["kernel"], params["kernel"])
    for length in (5.01, 1e9, jnp.inf, jnp.nan):
        assert_same(step(ours, length), (params, state))


def test_a_moving_decay_of_adam_is_that_of_the_step():
    decays = [0.9, 0.95, 0.97]
    rule = Optimizer().transformation(warm_up(0.1, 2), b1=0.0, b2=lambda n: jnp.array(decays)[n])
    params, state = updated(rule)
    # By hand: torch's Adam, whose groups get another second decay before each step.
    expected, second = PARAMS, jax.tree.map(jnp.zeros_like, PARAMS)
    for i, b2 in enumerate(decays):
        grads = jax.tree.map(lambda x, i=i: (i + 1) * jnp.sin(3 * x), expected)
        second = jax.tree.map(lambda v, g, b2=b2: b2 * v + (1 - b2) * g**2, second, grads)
        expected = jax.tree.map(
            lambda x, g, v, i=i, b2=b2: (
                x - 0.1 * min(i / 2, 1) * g / (jnp.sqrt(v / (1 - b2 ** (i + 1))) + 1e-8)
            ),
            expected,
            grads,
            second,
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, expected)
    assert list(state.hyperparams) == ["b2"]


def test_a_long_gradient_is_scaled_to_the_norm():
    rule = Optimizer("sgd", clip=0.5).transformation(1.0)
    update, _ = rule.update({"x": jnp.array([3.0, 4.0])}, rule.init({"x": jnp.zeros(2)}))
    np.testing.assert_allclose(update["x"], [-0.3, -0.4], rtol=1e-6)
    update, _ = rule.update({"x": jnp.array([0.3, 0.0])}, rule.init({"x": jnp.zeros(2)}))
    np.testing.assert_array_equal(update["x"], jnp.array([-0.3, 0.0]))


@pytest.mark.parametrize("module", DEFAULTS, ids=lambda module: module.__name__.split(".")[-1])
def test_every_experiment_has_the_flags_and_its_earlier_runs_parse(module):
    config = module.Config()
    assert config.optimizer == DEFAULTS[module]
    earlier = json.loads(json.dumps(as_json(asdict(config))))
    del earlier["optimizer"]
    earlier.pop("turns", None)
    assert parse(module.Config, earlier, "x") == config


@pytest.mark.parametrize("name", ["vae", "gan", "dcgan", "ddpm", "flow", "latent", "autoencoder"])
def test_settings_reach_every_player(name):
    family, spec = FAMILIES[name], ImageSpec((8, 8, 3), 4, 100)
    sliced = replace(family.config, optimizer=Optimizer("sgd", microbatches=4))
    each = family.build(sliced, spec)
    while each:
        for player in each.game.values():
            assert player.microbatches == 4
            assert not [x for x in jax.tree.leaves(player.optimizer.init(PARAMS)) if x.shape]
        each = each.before
    if hasattr(family.config, "turns"):
        several = family.build(replace(family.config, turns=3), spec)
        assert [player.turns for player in several.game.values()] == [3, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"weight_decay": 0.1},
            "--optimizer.weight-decay has no effect with .*name adam:",
        ),
        ({"name": "sgd", "weight_decay": 0.0}, "with --optimizer.name sgd.* adamw or lion"),
        ({"momentum": 0.9}, "--optimizer.momentum has no effect .* adam: .* sgd or rmsprop"),
        ({"clip": 0.0}, "--optimizer.clip must be above 0"),
        ({"clip": float("nan")}, "--optimizer.clip must be a finite number"),
        ({"microbatches": 0}, "--optimizer.microbatches must be at least 1"),
        ({"name": "sgd", "momentum": 1.0}, "--optimizer.momentum must be below 1"),
        ({"name": "lion", "weight_decay": -1.0}, "--optimizer.weight-decay must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_their_flags(settings, message):
    with pytest.raises(ConfigError, match=message):
        Optimizer(**settings)


def test_the_decay_of_adam_without_adam_is_refused():
    config = dcgan_fashion.Config(optimizer=Optimizer("sgd"), b1=0.9)
    with pytest.raises(ConfigError, match=r"--b1 0\.9 has no effect with --optimizer\.name sgd"):
        config.check(ImageSpec((28, 28, 1), 10, 100))


def test_slices_that_do_not_divide_the_batch_are_refused_by_their_flags():
    config = gan_fashion.Config(hidden=4, turns=2, optimizer=Optimizer(microbatches=3))
    game = gan_fashion.build(config, ImageSpec((8, 8, 1), 0, 100)).game
    with pytest.raises(layout.LayoutError) as raised:
        layout.check(game, 40, 2)
    assert str(raised.value) == (
        "--run.batch 40 does not divide over 2 devices and, by --turns 2, --optimizer.microbatches "
        "3, into 6 slices for 'critic': take a multiple of 12, such as 36"
    )
