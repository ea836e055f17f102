"""The step grids against their formulas, on every schedule."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules, schedules, steps

pytestmark = pytest.mark.heavy

SCHEDULES = [
    schedules.VP(),
    schedules.VE(),
    schedules.EDM(),
    schedules.RectifiedFlow(),
    schedules.Cosine(),
    discrete_schedules.DiscreteLinear(),
    schedules.Cosine(log_snr_max=math.inf, log_snr_min=-math.inf),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def test_uniform_and_quadratic_steps():
    np.testing.assert_allclose(steps.linear(4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(steps.linear(2, 0.9, 0.1), [0.9, 0.5, 0.1], rtol=1e-6)
    np.testing.assert_allclose(steps.quadratic(4), np.array([16, 9, 4, 1, 0]) / 16, atol=1e-7)
    np.testing.assert_allclose(np.diff(np.sqrt(steps.quadratic(8, 0.9, 0.2)), 2), 0, atol=1e-6)


@every_schedule
def test_karras_steps_are_equal_in_the_root_of_the_noise_ratio(schedule):
    times = steps.karras(10, schedule=schedule, sigma_min=0.02, sigma_max=20.0, rho=5.0)
    assert times.shape == (11,)
    assert times[-1] == 0
    ratios = schedule.sigma(times[:-1]) / schedule.alpha(times[:-1])
    expected = (20**0.2 + np.arange(10) / 9 * (0.02**0.2 - 20**0.2)) ** 5
    # A schedule inverts its log-SNR to about 1e-5.
    np.testing.assert_allclose(ratios, expected, rtol=1e-3)


@every_schedule
@pytest.mark.parametrize("grid", [steps.karras, steps.linear_log_snr])
@pytest.mark.parametrize("n", [10, 1000])
def test_grids_decrease_to_the_data_within_the_schedule(schedule, grid, n):
    times = grid(n, schedule=schedule)
    assert times.shape == (n + 1,)
    assert bool((times <= 1).all())
    assert times[-1] == 0
    # EDM's own lowest level is its time 0: the last step is then from there to clean data.
    assert bool((jnp.diff(times) < 0).all())
    if schedule.sigma(0.0) > 0 and grid is steps.karras:
        low = max(0.002, float(schedule.sigma(0.0) / schedule.alpha(0.0)))
        np.testing.assert_allclose(schedule.sigma(times[-2]), low, rtol=1e-3)
    assert bool(jnp.isfinite(schedule.log_snr(times[:-1])).all())


def test_karras_levels_outside_the_schedule_are_clipped_to_its_ends():
    schedule = schedules.VE(sigma_min=0.1, sigma_max=10.0)
    times = steps.karras(5, schedule=schedule, sigma_min=1e-3, sigma_max=1e3)
    np.testing.assert_allclose(schedule.sigma(times[:-1])[jnp.array([0, 4])], [10, 0.1], rtol=1e-4)


def test_the_default_karras_grid_is_that_of_edm_equal_in_its_time():
    times = steps.karras(10, schedule=schedules.EDM())
    np.testing.assert_allclose(times[:-1], np.linspace(1, 0, 10), atol=1e-5)


def test_an_infinite_log_snr_is_taken_as_30():
    schedule = schedules.Cosine(log_snr_max=math.inf, log_snr_min=-math.inf)
    with jax.enable_x64(True):
        times = steps.linear_log_snr(5, schedule=schedule, start=1.0, end=0.0)
        values = schedule.log_snr(times[:-1])
    np.testing.assert_allclose(values, [-30, -15, 0, 15, 30], rtol=1e-6, atol=1e-9)


@every_schedule
def test_log_snr_steps_are_equal_in_log_snr(schedule):
    times = steps.linear_log_snr(10, schedule=schedule, start=0.9, end=0.1)
    values = schedule.log_snr(times[:-1])
    expected = np.linspace(*schedule.log_snr(jnp.array([0.9, 0.1])), 10)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)
