"""Ancestral, DDIM, Euler and Heun against the papers' formulas in NumPy, and their orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.diffusion import (
    discrete_schedules,
    predictions,
    samplers,
    sampling_loop,
    schedules,
    steps,
)

pytestmark = pytest.mark.heavy

WEIGHTS, MEANS, VARIANCES = (0.3, 0.7), (-1.0, 0.8), (0.04, 0.25)


def denoise(z, alpha, sigma, xp=jnp):
    """E[x | z] of a one-dimensional mixture of two Gaussians, element by element."""
    logs, centres = [], []
    for weight, mean, variance in zip(WEIGHTS, MEANS, VARIANCES, strict=True):
        total = alpha**2 * variance + sigma**2
        logs.append(xp.log(weight / xp.sqrt(total)) - (z - alpha * mean) ** 2 / (2 * total))
        centres.append(mean + alpha * variance / total * (z - alpha * mean))
    share = 1 / (1 + xp.exp(logs[1] - logs[0]))
    return share * centres[0] + (1 - share) * centres[1]


def predict_mixture(schedule):
    return lambda z, t: denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0]))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def given_noise(monkeypatch):
    """Replace the random numbers by rows of a table, which NumPy can read as well."""
    table = np.random.default_rng(0).standard_normal((64, 2, 3))
    monkeypatch.setattr(
        sampling_loop, "_normal", lambda key, index, shape, dtype: jnp.asarray(table)[index]
    )
    return table


def grid_of(schedule, n):
    times = jnp.linspace(0.95, 0.0, n + 1)
    return times, np.array(schedule.alpha(times)), np.array(schedule.sigma(times))


@pytest.mark.heavy
@pytest.mark.parametrize("variance", [0.0, 1.0, "learned"])
def test_ancestral_is_the_reverse_chain_in_alphas_and_betas(x64, given_noise, variance):
    schedule = discrete_schedules.DiscreteLinear(steps=40, beta_end=0.3)
    times, alpha, sigma = grid_of(schedule, 8)
    v = 0.3 if variance == "learned" else variance

    def predict(z, t):
        data = denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0]))
        return (data, jnp.full(z.shape, v)) if variance == "learned" else data

    options = {} if variance == "learned" else {"variance": variance}
    result = samplers.ancestral(
        predict, None, (2, 3), schedule=schedule, target=predictions.data, steps=times, **options
    )

    # Ho et al. 2020, eqs. 7 and 11: x_{t−1} = (x_t − β ε/√(1 − ᾱ))/√(1 − β) + std ξ.
    x, bars = sigma[0] * given_noise[0], alpha**2
    for i in range(8):
        beta = 1 - bars[i] / bars[i + 1]
        tilde = (1 - bars[i + 1]) / (1 - bars[i]) * beta
        eps = (x - alpha[i] * denoise(x, alpha[i], sigma[i], np)) / sigma[i]
        x = (x - beta / np.sqrt(1 - bars[i]) * eps) / np.sqrt(1 - beta)
        if i < 7:
            x = x + np.sqrt(np.exp(v * np.log(beta) + (1 - v) * np.log(tilde))) * given_noise[i + 1]
    np.testing.assert_allclose(result, x, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_equation_12(x64, given_noise, eta):
    schedule = schedules.Cosine()
    times, alpha, sigma = grid_of(schedule, 8)
    alpha[-1], sigma[-1] = 1, 0
    result = samplers.ddim(
        predict_mixture(schedule),
        None,
        (2, 3),
        schedule=schedule,
        target=predictions.data,
        steps=times,
        eta=eta,
    )
    x, bars = sigma[0] * given_noise[0], alpha**2
    for i in range(8):
        std = eta * np.sqrt((1 - bars[i + 1]) / (1 - bars[i]) * (1 - bars[i] / bars[i + 1]))
        data = denoise(x, alpha[i], sigma[i], np)
        eps = (x - alpha[i] * data) / sigma[i]
        x = alpha[i + 1] * data + np.sqrt(1 - bars[i + 1] - std**2) * eps
        x = x + std * given_noise[i + 1]
    np.testing.assert_allclose(result, x, rtol=1e-9)


def test_ddim_with_eta_1_is_the_ancestral_sampler():
    schedule, key = schedules.VP(), jax.random.key(0)

    def run(sampler, **options):
        return sampler(
            predict_mixture(schedule),
            key,
            (4, 3),
            schedule=schedule,
            target=predictions.data,
            steps=steps.linear(10),
            **options,
        )

    one, other = jax.jit(lambda: (run(samplers.ddim, eta=1.0), run(samplers.ancestral)))()
    # Rounding: ten float32 steps on numbers of size 1, amplified by 1/α of up to e^2 per step.
    np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("amount", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("second_order", [False, True])
def test_heun_is_algorithm_2_of_edm(x64, given_noise, second_order, amount):
    schedule = schedules.EDM(sigma_max=10.0)
    low, high, scale, n = 0.05, 5.0, 1.007, 8
    times = steps.karras(n, schedule=schedule)
    sampler = samplers.heun if second_order else samplers.euler
    result = sampler(
        predict_mixture(schedule),
        None,
        (2, 3),
        schedule=schedule,
        target=predictions.data,
        steps=times,
        churn=samplers.Churn(amount, low, high, scale) if amount else None,
    )

    levels = (10 ** (1 / 7) + np.arange(n) / (n - 1) * (0.002 ** (1 / 7) - 10 ** (1 / 7))) ** 7
    levels = np.append(levels, 0)
    x, draws = 10 * given_noise[0], given_noise[1:]
    for i in range(n):
        gamma = min(amount / n, np.sqrt(2) - 1) if low <= levels[i] <= high else 0
        raised = levels[i] * (1 + gamma)
        x = x + np.sqrt(raised**2 - levels[i] ** 2) * scale * draws[i]
        slope = (x - denoise(x, 1, raised, np)) / raised
        after = x + (levels[i + 1] - raised) * slope
        if second_order and levels[i + 1]:
            slope_after = (after - denoise(after, 1, levels[i + 1], np)) / levels[i + 1]
            after = x + (levels[i + 1] - raised) * (slope + slope_after) / 2
        x = after
    np.testing.assert_allclose(result, x, rtol=1e-8)


def test_zero_churn_is_the_deterministic_sampler():
    schedule = schedules.RectifiedFlow()

    def run(churn):
        return samplers.heun(
            predict_mixture(schedule),
            jax.random.key(1),
            (4, 3),
            schedule=schedule,
            target=predictions.data,
            steps=steps.linear(6),
            churn=churn,
        )

    plain, churned = jax.jit(lambda: (run(None), run(samplers.Churn(0.0))))()
    # The times go through λ and back: a relative 1e-6 in each.
    np.testing.assert_allclose(plain, churned, atol=1e-4)


@pytest.mark.heavy
def test_churn_adds_no_more_noise_than_the_schedule_has_a_time_for(x64):
    # λ of the last time is finite: at t = 1 nothing can be added, and just before it only a part.
    schedule = discrete_schedules.Discrete((0.1, 0.3))
    times, start = jnp.array([1.0, 0.95, 0.5]), jnp.full((200, 50), 2.0)

    def run(churn):
        return samplers.euler(
            lambda z, t: 0 * z,
            jax.random.key(0),
            start.shape,
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
            churn=churn,
            trajectory=True,
        )[1]

    plain, churned = run(None), run(samplers.Churn(100.0))
    np.testing.assert_allclose(churned[1], plain[1], rtol=1e-9)
    alpha, sigma = np.asarray(schedule.alpha(times)), np.asarray(schedule.sigma(times))
    # With x̂ = 0 the step from t̂ = 1 is a factor σ_s/σ_1 on ẑ: deviation and mean of ẑ follow.
    scale = alpha[0] / alpha[1]
    added = np.sqrt(sigma[0] ** 2 - (scale * sigma[1]) ** 2)
    raised = churned[2] * sigma[0] / sigma[2]
    np.testing.assert_allclose(raised.mean(), scale * plain[1, 0, 0], atol=4 * added / 100)
    np.testing.assert_allclose(raised.std(), added, rtol=0.03)


@pytest.mark.parametrize("sampler", [samplers.euler, samplers.ddim, samplers.heun])
def test_on_a_rectified_flow_euler_and_heun_are_the_textbook_methods(x64, sampler):
    schedule, n = schedules.RectifiedFlow(), 8
    start = np.random.default_rng(1).standard_normal((2, 3))
    result = sampler(
        predict_mixture(schedule),
        None,
        (2, 3),
        schedule=schedule,
        target=predictions.data,
        steps=steps.linear(n),
        start=jnp.asarray(start),
    )

    def velocity(z, t):
        return (z - denoise(z, 1 - t, t, np)) / t

    z, width = start, 1 / n
    for t in np.arange(n, 0, -1) / n:
        slope = velocity(z, t)
        if sampler is samplers.heun and t > 1 / n:
            slope = (slope + velocity(z - width * slope, t - width)) / 2
        z = z - width * slope
    np.testing.assert_allclose(result, z, rtol=1e-9)


MEAN, VARIANCE = 0.7, 0.3


def predict_gaussian(schedule):
    def predict(z, t):
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (z - alpha * MEAN)

    return predict


def moments_of(sampler, schedule, times, **options):
    """Exact errors of mean and variance: example i receives unit noise in draw i − 1 alone.

    For Gaussian data each sampler is affine in start and noise, so that the variance is a sum of
    squares. Example 0 receives none and starts from the mean.
    """
    n = 2 * times.size + 2
    variance = schedule.alpha(times) ** 2 * VARIANCE + schedule.sigma(times) ** 2
    start = schedule.alpha(times[0]) * MEAN + jnp.sqrt(variance[0]) * jnp.eye(n, 1, -1)
    result = jax.jit(
        lambda start: sampler(
            predict_gaussian(schedule),
            None,
            (n, 1),
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
            **options,
        )
    )(start)[:, 0]
    mean = result[0] - schedule.alpha(times[-1]) * MEAN
    return float(mean), float(jnp.sum((result[1:] - result[0]) ** 2) / variance[-1] - 1)


@pytest.mark.heavy
@pytest.mark.parametrize("schedule", [schedules.Cosine(), schedules.EDM(sigma_max=10.0)])
@pytest.mark.parametrize(
    ("sampler", "options", "order"),
    [
        (samplers.ancestral, {}, 1),
        (samplers.ancestral, {"variance": 1.0}, 1),
        (samplers.ddim, {}, 1),
        (samplers.ddim, {"eta": 0.5}, 1),
        (samplers.euler, {"churn": samplers.Churn(4.0)}, 1),
        (samplers.heun, {}, 2),
        (samplers.heun, {"churn": samplers.Churn(4.0)}, 2),
    ],
)
def test_mean_is_exact_and_variance_converges_at_the_order(
    x64, monkeypatch, schedule, sampler, options, order
):
    def unit(key, index, shape, dtype):
        return (jnp.arange(shape[0])[:, None] == index + 1).astype(dtype)

    monkeypatch.setattr(sampling_loop, "_normal", unit)
    errors = []
    for n in (64, 128):
        times = steps.linear(n, 0.9, 0.2)
        mean, variance = moments_of(sampler, schedule, times, **options)
        assert abs(mean) < 1e-12
        errors.append(abs(variance))
    # At 64 steps the measured slopes lie within .08 of the order (next term: O(1/n) of the first).
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)
    assert errors[1] < 0.05**order


@pytest.mark.parametrize(
    "schedule", [schedules.RectifiedFlow(), schedules.EDM(sigma_max=200.0), schedules.VP()]
)
def test_heun_carries_every_quantile_of_noise_to_that_of_a_mixture(schedule):
    # In one dimension the flow is the increasing map between the two distributions.
    quantiles = np.linspace(0.01, 0.99, 99)
    start = schedule.sigma(jnp.ones(())) * stats.norm.ppf(quantiles)[:, None].astype(np.float32)
    times = steps.linear_log_snr(100, schedule=schedule)
    x = jax.jit(
        lambda start: samplers.heun(
            predict_mixture(schedule),
            None,
            start.shape,
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
        )
    )(start)
    reached = np.sum(WEIGHTS * stats.norm.cdf(x, MEANS, np.sqrt(VARIANCES)), -1)
    # VP keeps α(1) = .0066 of the data and EDM 1/200, which moves quantiles by .4 of that at most.
    np.testing.assert_allclose(reached, quantiles, atol=5e-3)


@pytest.mark.heavy
@pytest.mark.parametrize(("sampler", "order"), [(samplers.ddim, 1), (samplers.heun, 2)])
def test_encoding_then_sampling_recovers_the_data_at_the_order(x64, sampler, order):
    schedule = schedules.RectifiedFlow()
    x = jnp.linspace(-1.5, 1.5, 7)[:, None]
    predict = predict_mixture(schedule)
    arguments = {"schedule": schedule, "target": predictions.data}
    errors = []
    for n in (64, 128):
        times = steps.linear(n)
        noise = samplers.encode(predict, x, steps=times, sampler=sampler, **arguments)
        back = sampler(predict, None, x.shape, steps=times, start=noise, **arguments)
        errors.append(float(jnp.sqrt(jnp.mean((back - x) ** 2))))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)
    assert errors[1] < 0.2**order


@pytest.mark.heavy
def test_encoding_a_gaussian_gives_its_standard_score(x64):
    schedule = schedules.RectifiedFlow()
    x = MEAN + np.sqrt(VARIANCE) * jnp.array([[-1.0], [0.0], [2.0]])
    noise = samplers.encode(
        predict_gaussian(schedule),
        x,
        schedule=schedule,
        target=predictions.data,
        steps=steps.linear(200),
        sampler=samplers.heun,
    )
    # Second order, 200 steps: (1/200)² times derivatives of size 10.
    np.testing.assert_allclose(noise, jnp.array([[-1.0], [0.0], [2.0]]), atol=1e-3)


@pytest.mark.parametrize("clip", [(-0.2, 0.3), lambda data: jnp.clip(data, -0.2, 0.3)])
def test_clip_bounds_the_data_and_the_noise_follows(x64, clip):
    schedule = schedules.RectifiedFlow()
    start = jnp.array([[-2.0, 0.1, 2.0]])
    result, path = samplers.ddim(
        predict_mixture(schedule),
        None,
        (1, 3),
        schedule=schedule,
        target=predictions.data,
        steps=jnp.array([0.9, 0.4, 0.0]),
        start=start,
        clip=clip,
        trajectory=True,
    )
    data = np.clip(denoise(start, 0.1, 0.9, np), -0.2, 0.3)
    np.testing.assert_allclose(path[1], 0.6 * data + 0.4 * (start - 0.1 * data) / 0.9)
    assert result.min() >= -0.2
    assert result.max() <= 0.3


@pytest.mark.heavy
def test_heun_skips_the_last_correction():
    calls = []

    def predict(z, t):
        jax.debug.callback(lambda t: calls.append(float(t)), t[0])
        return jnp.zeros_like(z)

    schedule = schedules.RectifiedFlow()
    samplers.heun(
        predict,
        jax.random.key(0),
        (1, 2),
        schedule=schedule,
        target=predictions.data,
        steps=jnp.array([1.0, 0.5, 0.25, 0.0]),
    ).block_until_ready()
    jax.effects_barrier()
    assert sorted(calls) == [0.25, 0.25, 0.5, 0.5, 1.0]
