"""The loop that samplers share: its columns against closed forms, its estimates, its states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules, predictions, sampling_loop, schedules

pytestmark = pytest.mark.heavy

STEPS = jnp.array([1.0, 0.75, 0.25, 0.0])
Z = jax.random.normal(jax.random.key(1), (2, 3))


def loop(**options):
    options = {"start": Z, "clip": None, "trajectory": False} | options
    return sampling_loop.SamplingLoop(
        lambda z, t: 0.3 * z + t[:, None],
        jax.random.key(0),
        Z.shape,
        schedule=schedules.RectifiedFlow(),
        target=predictions.flow,
        steps=STEPS,
        **options,
    )


def row(i):
    columns = sampling_loop.rows(schedules.RectifiedFlow(), STEPS)
    return sampling_loop.Row(*(column[i] for column in columns))


def test_rows_are_the_closed_forms_of_rectified_flow():
    found = sampling_loop.rows(schedules.RectifiedFlow(), STEPS)
    t, s = np.array([1, 0.75, 0.25]), np.array([0.75, 0.25, 0])
    np.testing.assert_array_equal(found.draw, [1, 2, 3])
    np.testing.assert_allclose(found.alpha, 1 - t, atol=1e-7)
    np.testing.assert_allclose(found.sigma_next, s, atol=1e-7)
    # SNR 1/9 at 0.75 and 9 at 0.25.
    np.testing.assert_allclose(found.kappa, [1, 1 - 1 / 81, 1], rtol=1e-6)
    np.testing.assert_allclose(found.h[1], np.log(9), rtol=1e-6)
    assert found.h[2] == jnp.inf


def test_the_last_step_to_time_zero_returns_clean_data_even_if_sigma_0_is_positive():
    schedule = schedules.VE()
    found = sampling_loop.rows(schedule, jnp.array([1.0, 0.5, 0.0]))
    assert schedule.sigma(0.0) > 0
    assert found.sigma_next[-1] == 0
    table = sampling_loop.rows(schedule, jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(table.sigma_next[-1], schedule.sigma(0.5), rtol=1e-6)


def test_the_estimates_recombine_to_the_state_also_with_clipped_data():
    for clip in (None, (-0.1, 0.1), lambda x: 0.5 * x):
        data, noise = loop(clip=clip).data_and_noise(Z, row(1))
        np.testing.assert_allclose(0.25 * data + 0.75 * noise, Z, atol=1e-6)
        np.testing.assert_allclose(loop(clip=clip).data(Z, row(1)), data)


def test_where_there_is_no_noise_the_state_is_the_scaled_data():
    clean = row(2)._replace(alpha=jnp.float32(0.5), sigma=jnp.float32(0))
    data, noise = loop().split(jnp.ones_like(Z), Z, clean)
    np.testing.assert_allclose(data, 2 * Z, rtol=1e-6)
    np.testing.assert_array_equal(noise, 0)


def test_the_loop_returns_the_last_state_and_on_request_all():
    last, path = loop(trajectory=True).run(lambda z, row: z + row.t_next)
    np.testing.assert_allclose(last, Z + 1, rtol=1e-6)
    np.testing.assert_allclose(path, [Z, Z + 0.75, Z + 1, Z + 1], rtol=1e-6)
    np.testing.assert_array_equal(loop().run(lambda z, row: z + row.t_next), last)


def test_the_start_is_drawn_at_the_noise_level_of_the_first_time():
    np.testing.assert_array_equal(
        loop(start=None).start, jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), Z.shape)
    )


def test_a_safe_divisor_replaces_zero_alone():
    x = jnp.array([0, 1e-30, 2])
    np.testing.assert_array_equal(sampling_loop.positive(x), x.at[0].set(1))


ENDS = {
    "flow": (schedules.RectifiedFlow(), 0.0),
    "vp": (schedules.VP(), 0.0066),
    "ve": (schedules.VE(), 1 / 50),
    "edm": (schedules.EDM(), 1 / 80),
    "cosine": (schedules.Cosine(), np.exp(-10)),
    "vdm": (schedules.LinearLogSNR(), np.exp(-2.5)),
    "linear": (discrete_schedules.DiscreteLinear(), 0.0064),
    "100 of 1,000": (discrete_schedules.DiscreteLinear(100), 0.756),
    "100 scaled": (discrete_schedules.DiscreteLinear.scaled(100), 0.00452),
    "zero": (discrete_schedules.zero_terminal_snr(discrete_schedules.DiscreteLinear(100)), 0.0),
    "shifted": (schedules.Shifted(schedules.LinearLogSNR(), 4.0), np.exp(-0.5)),
}


def drawn(schedule, target, steps):
    """A loop that draws its start."""
    return sampling_loop.SamplingLoop(
        lambda z, t: z,
        jax.random.key(0),
        Z.shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=None,
        clip=None,
        trajectory=False,
    )


@pytest.mark.parametrize("name", ENDS)
def test_a_start_from_noise_warns_where_the_schedule_leaves_signal(name):
    schedule, left = ENDS[name]
    assert sampling_loop.signal(schedule, 1.0) == pytest.approx(left, rel=0.05)
    if left <= 0.1:  # and warnings are errors here
        drawn(schedule, predictions.velocity, STEPS)
        return
    with pytest.warns(UserWarning, match=rf"noise alone, where .* alpha/sigma = {left:.2g}"):
        drawn(schedule, predictions.velocity, STEPS)

    def traced(key):
        return drawn(schedule, predictions.velocity, STEPS + 0 * jax.random.uniform(key)).start

    with pytest.warns(UserWarning, match="alpha/sigma"):
        jax.eval_shape(traced, jax.random.key(0))


def test_a_start_without_signal_warns_where_the_target_says_nothing_of_the_data():
    with pytest.warns(UserWarning, match="determines no data"):
        drawn(schedules.RectifiedFlow(), predictions.noise, STEPS)
    drawn(schedules.RectifiedFlow(), predictions.noise, STEPS[1:] * 0 + jnp.array([0.999, 0.5, 0]))


def test_a_traced_schedule_is_not_judged():
    class Traced(schedules.RectifiedFlow):
        def alpha(self, t):
            return scale + 0 * jnp.asarray(t)

    def start(s):
        nonlocal scale
        scale = s
        return drawn(Traced(), predictions.data, STEPS).start

    scale = None
    jax.eval_shape(start, 0.5)


@pytest.mark.parametrize("target", [predictions.noise, predictions.velocity, predictions.flow])
def test_the_noise_in_clean_data_is_that_of_the_prediction(target):
    x, eps = jnp.array([[0.5, -2.0]]), jnp.array([[1.5, 0.25]])
    alpha, sigma = jnp.ones(()), jnp.zeros(())
    prediction = target.of(x, eps, alpha, sigma)
    found = sampling_loop.noise_in_data(target, prediction, x, alpha, sigma)
    np.testing.assert_allclose(found, eps, rtol=1e-6)


def test_data_determine_no_noise():
    x, one = jnp.array([[0.5, -2.0]]), jnp.ones(())
    found = sampling_loop.noise_in_data(predictions.data, x, x, one, 0 * one)
    np.testing.assert_array_equal(found, jnp.zeros_like(x))


def test_times_go_from_noise_to_data():
    falling, flat = jnp.array([1.0, 0.5, 0.0]), jnp.array([1.0, 0.5, 0.5])
    sampling_loop.check_order(falling, strict=True)
    sampling_loop.check_order(flat)
    sampling_loop.check_order(falling[::-1], encodes=True)
    jax.jit(lambda t: sampling_loop.check_order(t, strict=True))(falling[::-1])
    for times, strict in ((falling[::-1], False), (flat, True)):
        with pytest.raises(ValueError, match="decrease from 1"):
            sampling_loop.check_order(times, strict=strict)


def test_a_number_some_steps_earlier():
    x = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(sampling_loop.earlier(x, jnp.inf), [jnp.inf, 1, 2])
    np.testing.assert_array_equal(sampling_loop.earlier(x, 0.0, 2), [0, 0, 1])
