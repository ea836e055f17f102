"""Discrete schedules against the papers' products of 1 − β in float64; more in test_schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules


def test_linear_betas_are_the_products_of_ho_et_al():
    products = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    at = np.arange(1, 1001, dtype=np.float32) / 1000
    schedule = discrete_schedules.DiscreteLinear()
    np.testing.assert_allclose(np.float64(schedule.alpha(at)) ** 2, products, rtol=4e-6)
    np.testing.assert_allclose(np.float64(schedule.sigma(at)) ** 2, 1 - products, rtol=4e-6)


def test_cosine_betas_are_those_of_nichol_and_dhariwal_with_their_clip():
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    schedule = discrete_schedules.DiscreteCosine()
    np.testing.assert_allclose(schedule.betas, betas, rtol=1e-12)
    assert betas[-1] == 0.999 > betas[-2]
    at = np.arange(1, 1001, dtype=np.float32) / 1000
    # Near the end ᾱ falls by a quarter per step and t·1000 is rounded at 3e-5 of a step.
    np.testing.assert_allclose(
        np.float64(schedule.alpha(at)) ** 2, np.cumprod(1 - betas), rtol=3e-5 * 1000, atol=1e-9
    )
    np.testing.assert_allclose(
        np.float64(schedule.alpha(at[:900])) ** 2, np.cumprod(1 - betas)[:900], rtol=6e-6
    )


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["DiscreteLinear", "DiscreteCosine"])
def test_time_inverts_log_snr_within_and_at_the_steps(kind):
    schedule = getattr(discrete_schedules, kind)(20)
    at = np.array([0.05, 0.06, 0.31, 0.5, 0.52, 0.77, 0.9], np.float32)
    np.testing.assert_allclose(schedule.time(schedule.log_snr(at)), at, atol=2e-6)


def test_zero_terminal_snr_is_the_algorithm_of_lin_et_al():
    before = discrete_schedules.DiscreteLinear()
    root = np.sqrt(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
    expected = (root - root[-1]) * root[0] / (root[0] - root[-1])
    after = discrete_schedules.zero_terminal_snr(before)
    at = np.arange(1, 1001, dtype=np.float32) / 1000
    np.testing.assert_allclose(after.alpha(at), expected, rtol=3e-6, atol=1e-8)
    assert after.alpha(1.0) == 0
    assert after.sigma(1.0) == 1
    np.testing.assert_allclose(after.alpha(1e-3), before.alpha(1e-3), rtol=1e-7)
    assert after.betas[-1] == 1


def test_many_linear_steps_approach_the_vp_sde():
    times = np.linspace(0.1, 1, 10)
    exact = -(0.1 * times + 19.9 * times**2 / 2) / 2  # log α of VP

    def error(steps):
        schedule = discrete_schedules.DiscreteLinear(steps, 0.1 / steps, 20 / steps)
        return np.abs(np.log(np.float64(schedule.alpha(times))) - exact).max()

    # First order in 1/steps: a quarter of the error at four times the steps.
    assert error(4000) == pytest.approx(error(1000) / 4, rel=0.1)


@pytest.mark.heavy
def test_alpha_of_a_discrete_process_is_linear_between_its_steps():
    schedule = discrete_schedules.Discrete((0.1, 0.2))
    first, between, last = np.asarray(schedule.alpha(jnp.array([0.5, 0.75, 1.0])))
    assert between == pytest.approx((first + last) / 2, rel=1e-6)
    slope = jax.grad(schedule.log_snr)(0.6)
    np.testing.assert_allclose(schedule.log_snr_derivative(0.6), slope, rtol=1e-5)


@pytest.mark.heavy
def test_at_the_end_the_slope_is_that_of_the_last_segment():
    betas = (0.1, 0.2, 0.4)
    schedule = discrete_schedules.Discrete(betas)
    before, last = np.sqrt(np.cumprod(1 - np.array(betas))[-2:])
    slope = 3 * (last - before) * 2 / (last * (1 - last**2))  # of log ᾱ/(1 − ᾱ)
    for derivative in (schedule.log_snr_derivative, jax.grad(schedule.log_snr)):
        np.testing.assert_allclose(derivative(1.0), slope, rtol=1e-5)


@pytest.mark.parametrize("steps", [21, 100, 250, 4000])
def test_scaled_betas_end_in_as_much_noise_whatever_the_number_of_steps(steps):
    # improved-diffusion, get_named_beta_schedule("linear"), in float64.
    betas = np.linspace(1000 / steps * 1e-4, 1000 / steps * 0.02, steps)
    schedule = discrete_schedules.DiscreteLinear.scaled(steps)
    np.testing.assert_allclose(schedule.betas, betas, rtol=1e-12)
    assert schedule.alpha(1.0) < 0.0066
    assert discrete_schedules.DiscreteLinear(100).alpha(1.0) == pytest.approx(0.6, abs=0.005)


def test_a_thousand_scaled_betas_are_the_unscaled_ones():
    scaled = discrete_schedules.DiscreteLinear.scaled(1000)
    assert scaled == discrete_schedules.DiscreteLinear()
    assert scaled.betas == discrete_schedules.DiscreteLinear().betas


@pytest.mark.parametrize("steps", [0, 10, 20])
def test_too_few_steps_for_the_scaled_betas_raise(steps):
    with pytest.raises(ValueError, match="more than 20 steps"):
        discrete_schedules.DiscreteLinear.scaled(steps)
