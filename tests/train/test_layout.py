"""Layouts place, gather, raise and number examples; test_devices tests what they compute."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.train.game import Aux, Player, initial_state
from genjax.train.keys import example_keys, step_key
from genjax.train.layout import DataParallel, FullySharded, LayoutError, check
from tests.families import BATCH, FAMILIES, SPEC, initial

IMAGES = np.zeros((1, BATCH, *SPEC.shape), np.uint8)


@pytest.mark.parametrize("layout", [DataParallel(2), FullySharded(2)])
def test_a_data_set_on_the_devices_takes_the_same_steps(layout):
    family = FAMILIES["vae"].family()
    images = np.random.default_rng(0).integers(0, 256, (40, *SPEC.shape), np.uint8)
    indices = np.random.default_rng(1).integers(0, 40, (3, BATCH), np.int32)
    ends = []
    for held, batches in ((None, {"image": images[indices]}), ({"image": images}, indices)):
        dispatch = layout.compile(family.game, scan_steps=3, dataset=held)
        state = layout.place(initial(family))
        state, metrics = dispatch(state, jax.random.key(1), layout.feed(batches))
        ends.append((layout.gather(state), metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), *ends)


def test_sharding_spreads_large_arrays_on_their_largest_fitting_axis_and_keeps_them_there():
    family = FAMILIES["vae"].family()
    layout = FullySharded(8, smallest=64)
    state = layout.place(initial(family))
    batch = layout.feed({"image": IMAGES})
    state, _ = layout.compile(family.game)(state, jax.random.key(1), batch)
    kernel = state.params["vae"]["encoder"]["params"]["network"]["Dense_0"]["kernel"]
    assert kernel.shape == (192, 16)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(24, 16)}
    moment = jax.tree.leaves(state.opt_state)
    assert any(x.ndim and not x.sharding.is_fully_replicated for x in moment)
    assert state.step.sharding.is_fully_replicated
    gathered = layout.gather(state)
    assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(gathered))


@pytest.mark.parametrize(("size", "replicated"), [(2**14, False), (2**14 - 8, True)])
def test_arrays_of_2_to_the_14_elements_and_more_are_sharded(size, replicated):
    state = initial_state({}, {"p": jnp.zeros(size)}, {})
    placed = FullySharded(8).place(state)
    assert placed.params["p"].sharding.is_fully_replicated == replicated


@pytest.mark.parametrize("layout", [DataParallel(2), FullySharded(2)])
def test_by_default_a_call_is_one_step_and_none_is_skipped(layout):
    family, key = FAMILIES["vae"].family(), jax.random.key(1)
    steps, state = layout.compile(family.game), layout.place(initial(family))
    with pytest.raises(ValueError, match="2 train steps in one call, but scan_steps is 1"):
        steps(state, key, layout.feed({"image": np.repeat(IMAGES, 2, axis=0)}))
    _, metrics = steps(state, key, layout.feed({"image": IMAGES}))
    assert "vae/loss" in metrics
    assert "vae/skipped" not in metrics
    assert all(x.is_deleted() for x in jax.tree.leaves(state.params))  # donated: kept once
    assert not key.is_deleted()


@pytest.mark.parametrize("layout", [DataParallel(2), FullySharded(2)])
def test_a_prepared_program_is_neither_traced_nor_compiled_again(layout, caplog):
    family, key = FAMILIES["vae"].family(), jax.random.key(1)
    state, batch = layout.place(initial(family)), layout.feed({"image": IMAGES})
    program = layout.compile(family.game)

    def compiled(call):
        caplog.clear()
        with jax.log_compiles():
            call()
        return caplog.text.count("Finished XLA compilation")

    assert compiled(lambda: program.prepare(layout.like(state), key, batch)) == 1
    assert compiled(lambda: program(state, key, batch)) == 0


@pytest.mark.parametrize("layout", [DataParallel(2), FullySharded(8, smallest=64)])
def test_like_returns_the_shardings_of_a_placed_state(layout):
    state = initial(FAMILIES["vae"].family())

    def placement(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), tree)

    assert placement(layout.like(state)) == placement(layout.place(state))


def test_a_gathered_state_survives_the_next_donated_step():
    family, layout = FAMILIES["gan"].family(), DataParallel(2)
    state = layout.place(initial(family))
    dispatch = layout.compile(family.game)
    batch = layout.feed({"image": IMAGES})
    gathered = layout.gather(state)
    before = jax.tree.map(np.array, gathered)
    dispatch(state, jax.random.key(1), batch)
    jax.tree.map(np.testing.assert_array_equal, gathered, before)


def test_an_indivisible_batch_raises_and_suggests_another():
    game = FAMILIES["gan"].family().game
    with pytest.raises(LayoutError, match=r"30 does not divide over 8 devices: .* such as 24"):
        check(game, 30, 8)
    sliced = {**game, "critic": replace(game["critic"], turns=5)}
    with pytest.raises(LayoutError, match="into 5 slices for 'critic': take a multiple of 10"):
        check(sliced, 64, 2)
    check(sliced, 80, 2)
    check(game, 1, 1)


@pytest.mark.parametrize("batch", [-3, 0, 1, 7, 9])
def test_a_suggested_batch_is_divisible(batch):
    game = FAMILIES["gan"].family().game
    with pytest.raises(LayoutError) as raised:
        check(game, batch, 8)
    suggested = int(re.search(r"such as (-?\d+)$", str(raised.value)).group(1))
    assert suggested == 8
    check(game, suggested, 8)


@pytest.mark.parametrize("layout", [DataParallel(2), FullySharded(2)])
def test_more_steps_than_scan_steps_raise(layout):
    family = FAMILIES["vae"].family()
    for scan_steps in (1, 2):
        steps = layout.compile(family.game, scan_steps=scan_steps)
        batch = layout.feed({"image": np.repeat(IMAGES, scan_steps + 1, 0)})
        with pytest.raises(ValueError, match=f"{scan_steps + 1} train steps in one call"):
            steps(layout.place(initial(family)), jax.random.key(1), batch)


def test_noise_is_keyed_by_the_global_index_of_an_example():
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.fold_in(jax.random.key(3), 1), jnp.arange(8)
    )
    shared = jax.pmap(
        lambda x: jax.random.key_data(example_keys(jax.random.key(3), 1, len(x), "data")),
        axis_name="data",
    )(jnp.zeros((4, 2)))
    np.testing.assert_array_equal(shared.reshape(8, -1), jax.random.key_data(keys))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("parameters", [1, 2])
def test_a_state_of_two_arrays_takes_the_same_step_on_two_devices(parameters, raw):
    # With plain SGD and one parameter the step's arguments are as many arrays as arguments.
    def loss(params, state, keys, batch):
        error = sum(params["p"].values()) - batch["x"] - jax.vmap(jax.random.normal)(keys)
        return jnp.mean(error**2), Aux()

    game = {"p": Player(loss, optax.sgd(0.1))}
    start = {"p": {str(i): np.zeros((), np.float32) for i in range(parameters)}}
    key = jax.random.PRNGKey(1) if raw else jax.random.key(1)
    x = np.arange(4, dtype=np.float32)[None]
    ends = []
    for layout in (FullySharded(1), DataParallel(1), DataParallel(2)):
        state = layout.place(initial_state(game, start, {}))
        state, _ = layout.compile(game)(state, key, layout.feed({"x": x}))
        ends.append(float(state.params["p"]["0"]))
    noise = jax.vmap(jax.random.normal)(example_keys(step_key(key, 0), 0, 4, None))
    # 0 − 0.1 · d/dw of mean (w − x − noise)², rounded in float32.
    np.testing.assert_allclose(ends, 0.2 * (x[0] + noise).mean(), rtol=1e-6)
