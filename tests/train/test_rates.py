"""Rates by step."""

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.train import rates


def test_the_learning_rate_warms_up_stays_or_decays():
    stays = rates.warm_up(2.0, 10)
    np.testing.assert_allclose([stays(s) for s in (0, 5, 10, 99)], [0, 1, 2, 2])
    falls = rates.warm_up(2.0, 10, 30, end=0.5)
    # Halfway along the cosine it is midway between the highest and the last.
    np.testing.assert_allclose(
        [falls(s) for s in (0, 5, 10, 20, 30, 99)], [0, 1, 2, 1.25, 0.5, 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(rates.warm_up(2.0, 10, 30)(30), 0, atol=1e-7)
    with pytest.raises(ValueError, match="cannot fall by step 10 and rise up to step 10"):
        rates.warm_up(2.0, 10, 10)
    assert rates.warm_up(2.0, 10, 11)(10) == 2


def test_a_value_goes_along_half_a_cosine_and_stays():
    value = rates.cosine(0.05, 0.005, 40)
    found = [value(s) for s in (0, 10, 20, 40, 99)]
    quarter = 0.005 + 0.045 * (1 + np.cos(np.pi / 4)) / 2
    np.testing.assert_allclose(found, [0.05, quarter, 0.0275, 0.005, 0.005], rtol=1e-6)
    np.testing.assert_allclose([rates.cosine(0, 2, 4)(s) for s in (0, 2, 4)], [0, 1, 2], atol=1e-7)


def test_the_ramp_reaches_one_at_its_last_step():
    steps = jnp.arange(6)
    np.testing.assert_allclose(rates.linear_ramp(steps, 4), [0.25, 0.5, 0.75, 1, 1, 1])
    np.testing.assert_allclose(rates.linear_ramp(steps, 0), 1)


def test_images_are_counted_in_steps():
    assert rates.steps_of_images(10e6, 512) == 19531
    assert rates.steps_of_images(1, 512) == 1


def test_a_rate_falls_to_a_twentieth_by_its_step_or_the_runs_last_and_stays_without():
    last = rates.warm_up_and_fall(0.1, 10, "steps", 50)
    for rate, end in ((last, 50), (rates.warm_up_and_fall(0.1, 10, 30, 50), 30)):
        np.testing.assert_allclose([rate(0), rate(10), rate(end)], [0, 0.1, 0.005], rtol=1e-6)
    short, stays = (rates.warm_up_and_fall(0.1, 10, decay, 8) for decay in ("steps", None))
    np.testing.assert_allclose([short(8), short(99), stays(99)], [0.08, 0.1, 0.1], rtol=1e-6)


def test_the_inverse_square_root_rises_stays_and_falls():
    rate = rates.inverse_square_root(0.4, 100, warm_up=20)
    found = [float(rate(jnp.int32(step))) for step in (0, 5, 20, 100, 400, 10_000)]
    np.testing.assert_allclose(found, [0, 0.1, 0.4, 0.4, 0.2, 0.04], rtol=1e-6)
    without = rates.inverse_square_root(0.4, 100)
    found = [float(without(jnp.int32(step))) for step in (0, 100, 225)]
    np.testing.assert_allclose(found, [0.4, 0.4, 0.4 / 1.5], rtol=1e-6)
