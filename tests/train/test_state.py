"""What a state gives to sample with, and the names of what is broken in it."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.train.game import on_host
from genjax.train.state import TrainState, not_finite


def state(ema):
    params = {"generator": {"w": jnp.zeros(2)}, "critic": {"w": jnp.ones(2)}}
    return TrainState(jnp.zeros((), jnp.int32), params, {}, {}, ema)


def test_averages_take_the_place_of_the_parameters_of_their_players():
    found = state({"generator": {"w": jnp.full(2, 5.0)}}).averaged()
    np.testing.assert_array_equal(found["generator"]["w"], [5, 5])
    np.testing.assert_array_equal(found["critic"]["w"], [1, 1])


def test_of_several_averages_the_first_or_the_one_that_is_named():
    found = state({"generator": OrderedDict(short={"w": jnp.ones(1)}, long={"w": jnp.zeros(1)})})
    assert found.averaged()["generator"]["w"] == 1
    assert found.averaged("long")["generator"]["w"] == 0
    with pytest.raises(ValueError, match="'generator' keeps no average 'other'; there are short, "):
        found.averaged("other")


def test_the_paths_of_arrays_that_are_not_finite():
    tree = {
        "unet": {"Dense_0": {"kernel": jnp.array([1.0, jnp.inf]), "bias": jnp.zeros(1)}},
        "critic": [jnp.array([jnp.nan], jnp.bfloat16), jnp.array([2**31 - 1])],
    }
    assert sorted(not_finite(tree)) == ["critic.0", "unet.Dense_0.kernel"]
    assert not_finite({"step": np.int32(3)}) == []


def test_a_process_on_a_gpu_draws_its_first_state_on_the_host(monkeypatch):
    key = jax.random.key(0)
    assert on_host(key) is key
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = on_host(key)
    assert found.committed
    assert found.devices() == {jax.local_devices(backend="cpu")[0]}
    np.testing.assert_array_equal(jax.random.normal(found, (3,)), jax.random.normal(key, (3,)))

    def without(*, backend):
        raise RuntimeError("no cpu")

    monkeypatch.setattr(jax, "local_devices", without)
    assert on_host(key) is key
