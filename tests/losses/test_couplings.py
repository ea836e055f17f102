"""Couplings: the exact assignment against SciPy's, Sinkhorn's plan against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from genjax.losses import couplings
from tests.device_counts import DEVICES
from tests.losses.layouts import on_devices

pytestmark = pytest.mark.heavy

assign = jax.jit(couplings.assignment)


@pytest.mark.parametrize("kind", ["normal", "ties", "huge", "constant", "ordered"])
def test_assignment_has_the_cost_of_scipys(kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        cost = {
            "normal": rng.normal(size=(24, 24)),
            "ties": rng.integers(0, 3, (24, 24)),
            "huge": 1e30 * rng.normal(size=(24, 24)),
            "constant": np.ones((24, 24)),
            "ordered": -np.outer(np.arange(24), np.arange(24)),
        }[kind].astype(np.float32)
        found = np.asarray(assign(cost))
        np.testing.assert_array_equal(np.sort(found), np.arange(24))
        best = cost[linear_sum_assignment(cost)].astype(np.float64).sum()
        scale = np.abs(cost).max()
        assert cost[np.arange(24), found].astype(np.float64).sum() <= best + 1e-5 * scale


@pytest.mark.parametrize("n", [1, 2, 3])
def test_assignment_of_the_smallest_sizes(n):
    cost = np.random.default_rng(n).normal(size=(n, n)).astype(np.float32)
    np.testing.assert_array_equal(couplings.assignment(cost), linear_sum_assignment(cost)[1])


def test_a_cost_that_is_not_finite_terminates():
    assert assign(np.full((24, 24), np.nan, np.float32)).shape == (24,)
    with pytest.raises(ValueError, match=r"got \(2, 3\)"):
        couplings.assignment(jnp.zeros((2, 3)))


def test_optimal_transport_finds_the_least_squared_distance():
    x, eps = jax.random.normal(jax.random.key(0), (2, 24, 4, 4, 3))
    coupled = np.asarray(jax.jit(couplings.optimal_transport)(x, eps, jax.random.key(1)))
    distance = ((np.asarray(x)[:, None] - np.asarray(eps)[None]) ** 2).sum((2, 3, 4))
    best = distance[linear_sum_assignment(distance)].sum()
    assert ((np.asarray(x) - coupled) ** 2).sum() == pytest.approx(best, rel=1e-6)
    assert best < np.trace(distance)


@pytest.mark.heavy
def test_optimal_transport_undoes_a_permutation():
    x = jax.random.normal(jax.random.key(0), (24, 5))
    shuffled = jax.random.permutation(jax.random.key(1), x)
    np.testing.assert_array_equal(couplings.optimal_transport(x, shuffled, None), x)


def test_optimal_transport_on_a_line_is_sorting():
    x, eps = jax.random.normal(jax.random.key(3), (2, 24, 1))
    coupled = couplings.optimal_transport(x, eps, None)
    np.testing.assert_array_equal(np.argsort(x, axis=0), np.argsort(coupled, axis=0))


def test_sinkhorn_draws_from_the_entropic_plan():
    n, regularization = 5, 0.7
    x, eps = jax.random.normal(jax.random.key(0), (2, n, 2))
    # Sinkhorn & Knopp in float64 on the full squared distance.
    distance = ((np.float64(x)[:, None] - np.float64(eps)[None]) ** 2).sum(2)
    plan = np.exp(-0.5 * distance / regularization)
    for _ in range(500):
        plan /= plan.sum(0, keepdims=True)
        plan /= plan.sum(1, keepdims=True)
    couple, draws = couplings.sinkhorn(regularization), 20_000
    keys = jax.random.split(jax.random.key(1), draws)
    coupled = jax.jit(jax.vmap(lambda k: couple(x, eps, k)))(keys)
    drawn = (jnp.abs(coupled[:, :, None] - eps[None, None]).sum(-1) == 0).mean(0)
    # Five standard errors of a share.
    np.testing.assert_allclose(drawn, plan, atol=5 * 0.5 / np.sqrt(draws))


@pytest.mark.heavy
def test_sinkhorn_with_little_entropy_is_optimal_transport():
    # Apart by 1, so that every other permutation costs far more than the entropy gives.
    x = jnp.arange(24.0)[:, None] * jnp.ones(3)[None]
    eps = jax.random.permutation(jax.random.key(2), x + 0.1)
    couple = jax.jit(couplings.sinkhorn(0.05))
    exact = couplings.optimal_transport(x, eps, None)
    np.testing.assert_array_equal(couple(x, eps, jax.random.key(0)), exact)
    keys = jax.random.split(jax.random.key(0), 24)
    np.testing.assert_array_equal(couple(x, eps, keys), exact)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"x has \(4, 2\), eps has \(3, 2\)"):
        couplings.optimal_transport(jnp.zeros((4, 2)), jnp.zeros((3, 2)), None)


def test_independent_coupling_does_not_permute_the_noise():
    x, eps = jnp.zeros((5, 2)), jax.random.normal(jax.random.key(1), (5, 2))
    np.testing.assert_array_equal(couplings.independent(x, eps, jax.random.key(2)), eps)


COUPLE = {"optimal": couplings.optimal_transport, "sinkhorn": couplings.sinkhorn(0.5)}


@pytest.mark.heavy
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("layout", ["pmap", "jit"])
@pytest.mark.parametrize("kind", ["one key", "a key per example", "raw keys"])
@pytest.mark.parametrize("name", COUPLE)
def test_devices_that_share_a_batch_couple_the_global_batch(name, kind, layout, devices):
    couple = COUPLE[name]
    rng = np.random.default_rng(0)
    x, eps = jnp.asarray(rng.normal(size=(2, 16, 3)), jnp.float32)
    key = jax.random.PRNGKey(0) if kind == "raw keys" else jax.random.key(0)
    if kind != "one key":
        key = jax.random.split(key, 16)
    expected = couple(x, eps, key)
    found = on_devices(couple, devices, layout, x, eps, key)
    np.testing.assert_array_equal(found, expected)
    half = couple(x[:8], eps[:8], key if kind == "one key" else key[:8])
    assert not np.array_equal(expected[:8], half)


@pytest.mark.heavy
@pytest.mark.parametrize("name", COUPLE)
def test_an_axis_of_another_name_couples_each_share_on_its_own(name):
    x, eps = jax.random.normal(jax.random.key(3), (2, 2, 8, 3))
    key = jax.random.split(jax.random.key(0), (2, 8))
    couple = COUPLE[name]
    apart = [couple(*v) for v in zip(x, eps, key, strict=True)]
    by_axis = jax.vmap(couple, axis_name="model")(x, eps, key)
    np.testing.assert_array_equal(by_axis, jnp.stack(apart))


def test_the_plan_of_a_hard_batch_converges_and_tells_its_residual():
    # 0.05 is far below the differences of costs, of some 16: 100 updates leave one noise that
    # serves more than ten times as often as it should.
    key = jax.random.key(0)
    x = jax.random.uniform(key, (128, 3072))
    eps = jax.random.normal(jax.random.key(1), x.shape)
    plan = jax.jit(couplings.entropic_plan)
    early = plan(x, eps, 0.05, 100)
    assert early.residual > 10
    done = plan(x, eps, 0.05)
    np.testing.assert_allclose(jnp.exp(done.log_plan).sum(1), 1, rtol=1e-5)
    # The tolerance, and float32's rounding of logarithms of some 1,000.
    np.testing.assert_allclose(jnp.exp(done.log_plan).sum(0), 1, atol=1.1e-2)
    for found in (early, done):
        sums = np.exp(np.float64(found.log_plan)).sum(0)
        np.testing.assert_allclose(found.residual, np.abs(sums - 1).max(), rtol=1e-3)


def test_a_smaller_tolerance_takes_a_plan_closer_to_doubly_stochastic():
    x, eps = jax.random.normal(jax.random.key(0), (2, 8, 2))
    loose, tight = (couplings.entropic_plan(x, eps, 0.3, tolerance=t) for t in (0.5, 1e-5))
    assert tight.residual <= 2e-5 < loose.residual <= 0.5
