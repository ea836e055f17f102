"""The learned schedule: monotone whatever its parameters, with the given ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import learned_schedule

TIMES = jnp.concatenate([jnp.array([1e-6, 1e-4]), jnp.linspace(0.01, 0.99, 40)])


@pytest.fixture(params=[0.0, 1.0, 30.0])
def schedule(request):
    """As initialised, and with parameters far away."""
    made = learned_schedule.learned(jax.random.key(0), features=32)
    leaves, structure = jax.tree.flatten(made)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        v + request.param * jax.random.normal(k, v.shape)
        for v, k in zip(leaves[1:], keys[1:], strict=True)
    ]
    return jax.tree.unflatten(structure, [leaves[0], *moved])


@pytest.mark.heavy
def test_log_snr_decreases_between_its_ends(schedule):
    ends = schedule.log_snr(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(ends, [13.3, -5.0], rtol=1e-6)
    assert (np.diff(schedule.log_snr(TIMES)) < 0).all()
    assert (schedule.log_snr_derivative(TIMES) < 0).all()


def test_log_snr_is_the_formula_in_float64(schedule):
    w, b, c, slope = (
        np.float64(v) for v in (schedule.weights, schedule.biases, schedule.mixture, schedule.slope)
    )

    def rise(t):
        hidden = np.tanh(np.abs(w) * (np.float64(t)[..., None] - 0.5) + b)
        return np.abs(slope) * t + hidden @ np.abs(c)

    share = (rise(TIMES) - rise(0.0)) / (rise(1.0) - rise(0.0))
    # Against 13.3, float32's rounding of steep features (weights up to 100) is what is left.
    np.testing.assert_allclose(schedule.log_snr(TIMES), 13.3 - 18.3 * share, atol=1e-3)


@pytest.mark.heavy
def test_alpha_sigma_derivative_and_time_agree_with_log_snr(schedule):
    log_snr = np.float64(schedule.log_snr(TIMES))
    np.testing.assert_allclose(schedule.alpha(TIMES) ** 2, 1 / (1 + np.exp(-log_snr)), rtol=1e-5)
    np.testing.assert_allclose(schedule.sigma(TIMES) ** 2, 1 / (1 + np.exp(log_snr)), rtol=1e-5)
    slopes = jax.vmap(jax.grad(schedule.log_snr))(TIMES)
    np.testing.assert_allclose(schedule.log_snr_derivative(TIMES), slopes, rtol=1e-4)
    back = schedule.time(schedule.log_snr(TIMES))
    # A time is known as well as λ's rounding over its slope.
    slack = 4e-6 / np.abs(slopes) + 1e-6
    assert (np.abs(back - TIMES) <= slack).all()


def test_it_starts_with_steep_features_of_little_weight():
    schedule = learned_schedule.learned(jax.random.key(0), log_snr_max=9.0, log_snr_min=-4.0)
    np.testing.assert_array_equal(schedule.ends, [9, -4])
    assert schedule.slope == 1
    # 1,024 draws: four standard errors of a deviation are 9 %.
    np.testing.assert_allclose(schedule.weights.std(), 4, rtol=0.09)
    np.testing.assert_allclose(schedule.biases.std(), 2, rtol=0.09)
    np.testing.assert_allclose(schedule.mixture.std(), 0.1 / 1024, rtol=0.09)


@pytest.mark.heavy
def test_it_is_a_pytree_of_its_parameters_and_starts_nearly_linear():
    schedule = learned_schedule.learned(jax.random.key(0))
    assert len(jax.tree.leaves(schedule)) == 5
    linear = 13.3 - 18.3 * TIMES
    # Tenths of a per cent of 18.3: the features, of total weight .08, bend it a little.
    assert 0.02 < jnp.abs(schedule.log_snr(TIMES) - linear).max() < 0.1
    jitted = jax.jit(lambda s, t: s.log_snr(t))(schedule, TIMES[None])
    np.testing.assert_allclose(jitted[0], schedule.log_snr(TIMES), rtol=1e-5)
