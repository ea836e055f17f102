"""One device or eight, copied or sharded: the same losses, for every family."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    autoencoder_fashion,
    dcgan_fashion,
    ddpm_fashion,
    gan_fashion,
    latent_shapes,
    vae_fashion,
)
from genjax.cli.system import Spec
from genjax.train.game import begin
from genjax.train.layout import DataParallel, FullySharded, LayoutError, check

STEPS, BATCH = 20, 16
GREY, COLOUR = Spec((8, 8, 1), 4, 100), Spec((16, 16, 3), 4, 100)

# Small networks with all that could tie a result to the number of devices: noise, dropout,
# synchronised BatchNorm, statistics of codes, labels left out.
FAMILIES = {
    "autoencoder": autoencoder_fashion.build(autoencoder_fashion.Config(latent=4), GREY),
    "vae": vae_fashion.build(vae_fashion.Config(latent=4, hidden=16), GREY),
    "gan": gan_fashion.build(gan_fashion.Config(hidden=16), GREY),
    "dcgan": dcgan_fashion.build(dcgan_fashion.Config(widths=(16, 8, 8)), GREY),
    "ddpm": ddpm_fashion.build(
        ddpm_fashion.Config(
            channels=8, multipliers=(1, 1), attention=(), dropout=0.1, classes=True
        ),
        GREY,
    ),
    "latent": latent_shapes.build(
        latent_shapes.Config(latent=8, widths=(8, 8), width=16, blocks=1), COLOUR
    ),
}


def start(system, key):
    before = start(system.before, key) if system.before else None
    return begin(system.game, *system.init(key, before))


def losses(system, initial, layout, batches):
    """{"player/loss": [STEPS]}, from one step in each dispatch."""
    state = layout.place(initial)
    dispatch = layout.compile(system.game, several=False)
    told = []
    for i in range(STEPS):
        batch = {name: array[i : i + 1] for name, array in batches.items()}
        state, metrics = dispatch(state, jax.random.key(1), layout.feed(batch))
        told.append({k: float(v[0]) for k, v in metrics.items() if k.endswith("/loss")})
    return {k: np.array([row[k] for row in told]) for k in told[0]}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_losses_do_not_depend_on_the_devices_or_the_layout(family):
    system = FAMILIES[family]
    rng = np.random.default_rng(0)
    shape = COLOUR.shape if family == "latent" else GREY.shape
    batches = {
        "image": rng.integers(0, 256, (STEPS, BATCH, *shape), np.uint8),
        "label": rng.integers(0, 4, (STEPS, BATCH), np.int32),
    }
    drawn = jax.jit(lambda key: start(system, key))(jax.random.key(0))
    initial = jax.tree.map(np.asarray, drawn)
    one = losses(system, initial, DataParallel(1), batches)
    assert all(np.ptp(values) > 1e-4 for values in one.values())  # it does train
    for layout in (DataParallel(8), FullySharded(8, smallest=64)):
        for name, values in losses(system, initial, layout, batches).items():
            scale = np.maximum(1, np.abs(one[name]))
            assert np.max(np.abs(values - one[name]) / scale) < 1e-5, (layout, name)


def test_several_steps_in_one_dispatch_are_the_same_steps():
    system = FAMILIES["vae"]
    images = np.random.default_rng(0).integers(0, 256, (6, BATCH, 8, 8, 1), np.uint8)
    layout, states = DataParallel(2), []
    for count in (1, 3):
        state = layout.place(start(system, jax.random.key(0)))
        dispatch = layout.compile(system.game, several=count > 1)
        for i in range(0, 6, count):
            batch = layout.feed({"image": images[i : i + count]})
            state, metrics = dispatch(state, jax.random.key(1), batch)
        assert metrics["vae/loss"].shape == (count,)
        states.append(layout.gather(state))
    assert states[0].step == states[1].step == 6
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), states[0], states[1]
    )


def test_sharding_spreads_large_arrays_on_their_largest_fitting_axis_and_keeps_them_there():
    system = FAMILIES["vae"]
    layout = FullySharded(8, smallest=64)
    state = layout.place(start(system, jax.random.key(0)))
    batch = layout.feed({"image": np.zeros((1, BATCH, 8, 8, 1), np.uint8)})
    state, _ = layout.compile(system.game, several=False)(state, jax.random.key(1), batch)
    kernel = state.params["vae"]["encoder"]["params"]["network"]["Dense_0"]["kernel"]
    assert kernel.shape == (64, 16)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(8, 16)}
    moment = jax.tree.leaves(state.opt_state)
    assert any(x.ndim and not x.sharding.is_fully_replicated for x in moment)
    assert state.step.sharding.is_fully_replicated
    whole = layout.gather(state)
    assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(whole))


def test_a_gathered_state_survives_the_next_donated_step():
    system, layout = FAMILIES["gan"], DataParallel(2)
    state = layout.place(start(system, jax.random.key(0)))
    dispatch = layout.compile(system.game, several=False)
    batch = layout.feed({"image": np.zeros((1, BATCH, 8, 8, 1), np.uint8)})
    kept = layout.gather(state)
    before = jax.tree.map(np.array, kept)
    dispatch(state, jax.random.key(1), batch)
    jax.tree.map(np.testing.assert_array_equal, kept, before)


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does():
    game = FAMILIES["gan"].game
    with pytest.raises(LayoutError, match=r"30 does not divide over 8 devices: .* such as 24"):
        check(game, 30, 8)
    sliced = {**game, "critic": replace(game["critic"], turns=5)}
    with pytest.raises(LayoutError, match="into 5 slices for 'critic': take a multiple of 10"):
        check(sliced, 64, 2)
    check(sliced, 80, 2)


def test_noise_is_that_of_the_global_example():
    from genjax.train.step import _example_keys

    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.fold_in(jax.random.key(3), 1), jnp.arange(8)
    )
    shared = jax.pmap(
        lambda x: jax.random.key_data(_example_keys(jax.random.key(3), 1, x, "data")),
        axis_name="data",
    )(jnp.zeros((4, 2)))
    np.testing.assert_array_equal(shared.reshape(8, -1), jax.random.key_data(keys))
