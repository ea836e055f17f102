"""One train step of every family on the device against the CPU's, in float32, TF32 and bfloat16."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from genjax.train.layout import DataParallel
from genjax.train.step import make_step
from tests.families import FAMILIES, batches, initial
from tests.gpu.closeness import computing_on, distance, floats, host

pytestmark = pytest.mark.gpu

KEY = 1
# Sums of a few thousand float32 terms in two orders: 6e-8 · √1000, some ten layers deep.
FLOAT32 = 3e-5
# A player after another sees parameters that moved by ± the rate where a gradient is all rounding,
# as Adam divides it by its own size: a share of 1e-3 of them or less.
AFTER_ANOTHER = 3e-3
# TF32 rounds factors to 2⁻¹¹ = 5e-4, in forward and backward pass, some ten layers deep.
TF32 = 1e-2
# bfloat16 rounds every result to 2⁻⁹ = 2e-3.
BFLOAT16 = 5e-2


@functools.cache
def start(name):
    with computing_on(jax.devices("cpu")[0]):
        return initial(FAMILIES[name].family()), batches(1)


def on_the_cpu(name, family=None):
    """(state, metrics) after a step of one jitted function, without a layout."""
    place = jax.devices("cpu")[0]
    state, batch = jax.device_put(start(name), place)
    with computing_on(place):
        step = jax.jit(make_step((family or FAMILIES[name].family()).game, None))
        batch = jax.tree.map(lambda x: x[0], batch)
        return host(step(state, jax.random.key(KEY), batch))


def on_the_device(name, family=None):
    """(state, metrics) after a step as a run takes it."""
    layout, (state, batch) = DataParallel(1), start(name)
    step = layout.compile((family or FAMILIES[name].family()).game)
    state, metrics = step(layout.place(state), jax.random.key(KEY), layout.feed(batch))
    return host((layout.gather(state), jax.tree.map(lambda x: x[0], metrics)))


def differences(found, expected, game):
    """{what: distance}: each player's metrics and gradients, and the batch statistics.

    The optimizer's state holds the gradients; the parameters after Adam's first step little but
    their signs.
    """
    (state, metrics), (other, others) = found, expected
    assert metrics.keys() == others.keys()
    found = {}
    for name in game:
        for metric in (m for m in metrics if m.startswith(f"{name}/")):
            gap = abs(float(metrics[metric]) - float(others[metric]))
            found[metric] = gap / max(1.0, abs(float(others[metric])))
        moments = floats(state.opt_state[name]), floats(other.opt_state[name])
        found[f"{name} gradients"] = distance(*moments)
    if floats(other.variables):
        found["variables"] = distance(floats(state.variables), floats(other.variables))
    for part in ("params", "ema"):
        assert all(np.isfinite(x).all() for x in floats(getattr(state, part)))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_in_float32_is_that_of_the_cpu(name):
    game = FAMILIES[name].family().game
    with jax.default_matmul_precision("highest"):
        found = differences(on_the_device(name), on_the_cpu(name), game)
    several = len(game) > 1 or any(player.turns > 1 for player in game.values())
    limit = AFTER_ANOTHER if several else FLOAT32
    assert {k: v for k, v in found.items() if not v < limit} == {}


@pytest.mark.parametrize("name", ["vae conv", "ddpm"])
def test_a_step_in_the_default_precision_is_close_to_the_cpus(name):
    """JAX multiplies float32 in TF32 on an NVIDIA GPU, and genjax leaves that as it is."""
    found = differences(on_the_device(name), on_the_cpu(name), FAMILIES[name].family().game)
    assert {k: v for k, v in found.items() if not v < TF32} == {}


@pytest.mark.parametrize("name", ["ddpm", "flow"])
def test_a_step_in_bfloat16_is_close_to_that_in_float32(name):
    small = FAMILIES[name]
    narrow = replace(small, config=replace(small.config, compute="bfloat16")).family()
    found, expected = on_the_device(name, narrow), on_the_device(name)
    assert {x.dtype for x in floats(found[0])} == {np.dtype(np.float32)}
    apart = differences(found, expected, small.family().game)
    assert {k: v for k, v in apart.items() if not v < BFLOAT16} == {}
    # It is another computation: else the setting had no effect.
    assert max(v for k, v in apart.items() if "gradients" in k) > 1e-4
