"""Bounds of diffusion models: some of the transitions stand for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions
from genjax.diffusion.discrete_schedules import DiscreteLinear
from genjax.evaluate.likelihood_scores import _stratified_bound, level_blocks
from genjax.losses import vlb

pytestmark = pytest.mark.heavy
LEVELS = 1000
SCHEDULE = DiscreteLinear()
HOW = {"schedule": SCHEDULE, "target": predictions.noise, "steps": LEVELS}


def predict(z, t):
    """The noise where data are N(0, 0.5²), and a little more: no perfect model."""
    alpha, sigma = (f(t)[:, None, None, None] for f in (SCHEDULE.alpha, SCHEDULE.sigma))
    return 1.05 * sigma * z / (0.25 * alpha**2 + sigma**2)


@pytest.mark.parametrize(("levels", "terms"), [(1000, 50), (1000, 1000), (25, 24), (1000, 1)])
def test_blocks_hold_each_level_once(levels, terms):
    ends = np.asarray(level_blocks(levels, terms))
    assert (ends[0], ends[-1]) == (1, levels)
    assert (np.diff(ends) > 0).all()
    assert len(ends) <= terms + 1
    assert (np.diff(ends)[1:] >= np.diff(ends)[:-1] - 1).all()  # they grow, but for rounding


@pytest.mark.slow
def test_a_transition_of_each_block_stands_for_all_of_them():
    x = 0.5 * jax.random.normal(jax.random.key(1), (1, 4, 4, 1))
    many = jnp.repeat(x, 4000, 0)
    keys = jax.random.split(jax.random.key(2), 4000)
    few = jax.jit(lambda x, key: _stratified_bound(predict, x, key, 20, **HOW))(many, keys)
    every = jax.jit(lambda x, key: vlb.bound(predict, x, key, **HOW))(many, keys)
    np.testing.assert_array_equal(few.prior, every.prior)
    for part in ("transitions", "decoder"):
        ours, theirs = getattr(few, part), getattr(every, part)
        error = np.hypot(ours.std(), theirs.std()) / 4000**0.5
        assert abs(ours.mean() - theirs.mean()) < 4 * error
        assert 4 * error < 0.03 * theirs.mean()  # so that a lost block is seen
