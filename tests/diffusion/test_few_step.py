"""Consistency and MeanFlow samplers: exact for perfect networks, and their algorithms in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import few_step, predictions, samplers, sampling_loop, schedules, steps
from genjax.losses.consistency import boundary

pytestmark = pytest.mark.heavy

MEAN, VARIANCE = 0.7, 0.3
EDM = schedules.EDM(sigma_max=20.0)
KEY = jax.random.key(0)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def given_noise(monkeypatch):
    table = np.random.default_rng(0).standard_normal((8, 2, 3))
    monkeypatch.setattr(
        sampling_loop, "_normal", lambda key, index, shape, dtype: jnp.asarray(table)[index]
    )
    return table


def spread(t):
    return jnp.sqrt((1 - t) ** 2 * VARIANCE + t**2)


def velocity(z, t):
    """dz/dt of the rectified flow from N(0, 1) to N(MEAN, VARIANCE)."""
    a = 1 - t
    data = MEAN + a * VARIANCE / (a**2 * VARIANCE + t**2) * (z - a * MEAN)
    return (z - data) / t


def mean_velocity(z, r, t):
    """Exact, as the flow keeps the standard score of z."""
    r, t = r[:, None], t[:, None]
    reached = (1 - r) * MEAN + spread(r) / spread(t) * (z - (1 - t) * MEAN)
    return (z - reached) / (t - r)


@pytest.mark.parametrize("times", [[1, 0], [1, 0.9, 0.5, 0.1, 0]])
def test_a_perfect_mean_velocity_is_exact_in_any_number_of_steps(x64, times):
    noise = jnp.linspace(-2.0, 2.0, 5)[:, None]
    x = jax.jit(
        lambda: few_step.meanflow(
            mean_velocity, None, (5, 1), steps=jnp.array(times, float), start=noise
        )
    )()
    np.testing.assert_allclose(x, MEAN + np.sqrt(VARIANCE) * noise, rtol=1e-12)


def test_one_step_is_the_noise_less_its_mean_velocity():
    def sample():
        def predict(z, r, t):
            return jnp.sin(z) + r[:, None] + 2 * t[:, None]

        return few_step.meanflow(predict, KEY, (4, 3), steps=steps.linear(1), trajectory=True)

    x, path = jax.jit(sample)()
    np.testing.assert_allclose(x, path[0] - (np.sin(path[0]) + 2), rtol=1e-5)
    np.testing.assert_array_equal(path[-1], x)


def test_the_velocity_itself_makes_meanflow_eulers_method():
    times = jnp.array([1.0, 0.7, 0.4, 0.1, 0.0])
    start = jnp.linspace(-2.0, 2.0, 5)[:, None]

    def sample():
        mean = few_step.meanflow(
            lambda z, r, t: velocity(z, t[0]), None, (5, 1), steps=times, start=start
        )
        euler = samplers.euler(
            lambda z, t: velocity(z, t[0]),
            None,
            (5, 1),
            schedule=schedules.RectifiedFlow(),
            target=predictions.flow,
            steps=times,
            start=start,
        )
        return mean, euler

    mean, euler = jax.jit(sample)()
    np.testing.assert_allclose(mean, euler, rtol=1e-5)


def sample_consistency(f, times, key=None, shape=(2, 3), schedule=EDM, **options):
    return few_step.consistency(f, key, shape, schedule=schedule, steps=times, **options)


def test_consistency_is_algorithm_1(x64, given_noise):
    network = boundary(lambda z, t: jnp.sin(3 * z) + t[:, None], schedule=EDM)
    times = jnp.array([1.0, 0.6, 0.2, 0.0])
    result, path = jax.jit(lambda: sample_consistency(network, times, trajectory=True))()

    levels = np.array(EDM.sigma(times))
    x = np.array(network(20 * given_noise[0], jnp.ones(2)))
    for i in (1, 2):
        noisy = x + np.sqrt(levels[i] ** 2 - 0.002**2) * given_noise[i]
        np.testing.assert_allclose(path[i], noisy, rtol=1e-9)
        x = np.array(network(jnp.asarray(noisy), jnp.full(2, times[i])))
    np.testing.assert_allclose(result, x, rtol=1e-9)
    np.testing.assert_array_equal(path[-1], result)


@pytest.mark.parametrize("schedule", [EDM, schedules.VP(), schedules.RectifiedFlow()])
def test_a_perfect_consistency_model_keeps_mean_and_variance(x64, monkeypatch, schedule):
    # Affine in start and noise: example i receives unit noise in draw i − 1 alone.
    def unit(key, index, shape, dtype):
        return (jnp.arange(shape[0])[:, None] == index + 1).astype(dtype)

    def moments(t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return alpha, jnp.sqrt(alpha**2 * VARIANCE + sigma**2)

    (first, least), times = moments(jnp.zeros(())), jnp.array([0.9, 0.5, 0.2, 0.0])

    def f(z, t):
        # To the marginal at t = 0, whose noise a sample keeps.
        alpha, deviation = moments(t[0])
        return MEAN + least / first / deviation * (z - alpha * MEAN)

    monkeypatch.setattr(sampling_loop, "_normal", unit)
    alpha, deviation = moments(times[0])
    start = alpha * MEAN + deviation * jnp.eye(6, 1, -1)
    x = jax.jit(
        lambda: sample_consistency(f, times, shape=(6, 1), schedule=schedule, start=start)[:, 0]
    )()
    assert x[0] == pytest.approx(MEAN, abs=1e-12)
    assert jnp.sum((x[1:] - x[0]) ** 2) == pytest.approx(float(least / first) ** 2, rel=1e-9)


def test_one_step_draws_no_noise_and_more_steps_depend_on_the_example_s_own_key():
    f = boundary(lambda z, t: jnp.sin(z), schedule=EDM)
    start = 20 * jax.random.normal(KEY, (4, 3))
    keys = jax.random.split(KEY, 4)
    others = keys.at[1:].set(jax.random.split(jax.random.key(1), 3))
    one, expected, a, b = jax.jit(
        lambda: (
            sample_consistency(f, steps.linear(1), None, (4, 3), start=start),
            f(start, jnp.ones(4)),
            *(sample_consistency(f, steps.linear(3), k, (4, 3)) for k in (keys, others)),
        )
    )()
    np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(a[0], b[0])
    assert np.abs(a - b)[1:].max(1).min() > 1e-3
    with pytest.raises(ValueError, match="give it a key"):
        jax.eval_shape(lambda: sample_consistency(f, steps.linear(2), None, (4, 3), start=start))


def test_clip_bounds_every_estimate():
    f = boundary(lambda z, t: 5 * jnp.sin(z), schedule=EDM)
    x = jax.jit(lambda: sample_consistency(f, steps.linear(3), KEY, (4, 3), clip=(-0.5, 0.2)))()
    assert jnp.float32(-0.5) == x.min() < x.max() == jnp.float32(0.2)


def test_bfloat16_passes_through():
    seen = []

    def predict(z, *times):
        seen.append(z.dtype)
        return z

    start = jnp.ones((2, 3), jnp.bfloat16)
    one = few_step.meanflow(predict, None, (2, 3), steps=steps.linear(4), start=start)
    other = sample_consistency(predict, steps.linear(1), start=start)
    assert {one.dtype, other.dtype, *seen} == {jnp.dtype(jnp.bfloat16)}
    # (1 − 1/4)⁴, summed in float32.
    np.testing.assert_allclose(one.astype(float), 0.75**4, rtol=2**-8)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        (r"\(4, 3\), got \(4, 1\)", lambda: few_step.meanflow(
            lambda z, r, t: z[:, :1], KEY, (4, 3), steps=steps.linear(1))),
        (r"\(4, 1\).*\(4, 3\)", lambda: sample_consistency(
            lambda z, t: z[:, :1], steps.linear(1), KEY, (4, 3))),
        ("give it a key", lambda: few_step.meanflow(
            lambda z, r, t: z, None, (4, 3), steps=steps.linear(1))),
        ("end at 0", lambda: sample_consistency(
            lambda z, t: z, jnp.array([1.0, 0.5]), KEY, (4, 3))),
        ("strictly decrease", lambda: sample_consistency(
            lambda z, t: z, jnp.array([1.0, 0.5, 0.5, 0.0]), KEY, (4, 3))),
    ],
)  # fmt: skip
def test_wrong_arguments_raise(match, call):
    with pytest.raises(ValueError, match=match):
        call()
