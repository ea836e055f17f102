"""The predictor-corrector sampler against its formula in NumPy and the variance it must have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import correctors, predictions, samplers, sampling_loop, schedules, steps

pytestmark = pytest.mark.heavy

VARIANCE = 0.3


def denoise(z, alpha, sigma):
    """The ideal denoiser of N(0, VARIANCE)."""
    return alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * z


def sample(schedule, key, shape, times, sampler=correctors.predictor_corrector, **options):
    return jax.jit(
        lambda: sampler(
            lambda z, t: denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0])),
            key,
            shape,
            schedule=schedule,
            target=predictions.data,
            steps=times,
            **options,
        )
    )()


@pytest.mark.parametrize("schedule", [schedules.VP(), schedules.VE(sigma_max=5.0)])
def test_predictor_corrector_alternates_ancestral_and_langevin_steps(monkeypatch, schedule):
    draws = np.random.default_rng(0).standard_normal((16, 2, 6))
    monkeypatch.setattr(
        sampling_loop, "_normal", lambda key, index, shape, dtype: jnp.asarray(draws)[index]
    )
    with jax.enable_x64(True):
        times = steps.linear(4)
        _, path = sample(schedule, None, (2, 6), times, corrections=2, snr=0.2, trajectory=True)
        alpha, sigma = np.array(schedule.alpha(times)), np.array(schedule.sigma(times))
    alpha[-1], sigma[-1] = 1, 0

    z, noise = sigma[0] * draws[0], iter(draws[1:])
    np.testing.assert_allclose(path[0], z, rtol=1e-9)
    for i in range(4):
        # Song et al. 2021, algorithms 4 and 5, with α = 1 − β = (α_t/α_s)².
        for _ in range(2):
            drawn = next(noise)
            score = -(z - alpha[i] * denoise(z, alpha[i], sigma[i])) / sigma[i] ** 2
            norms = [np.linalg.norm(a, axis=1, keepdims=True) for a in (drawn, score)]
            size = 2 * (alpha[i] / alpha[i + 1]) ** 2 * (0.2 * norms[0] / norms[1]) ** 2
            z = z + size * score + np.sqrt(2 * size) * drawn
        # q(z_s | z_t, x̂): a product of two Gaussians in z_s.
        data = denoise(z, alpha[i], sigma[i])
        step = alpha[i] / alpha[i + 1]
        lost = sigma[i] ** 2 - step**2 * sigma[i + 1] ** 2
        mean = step * sigma[i + 1] ** 2 * z + alpha[i + 1] * lost * data
        mean = mean / sigma[i] ** 2
        z = mean + np.sqrt(lost) * sigma[i + 1] / sigma[i] * next(noise)
        np.testing.assert_allclose(path[i + 1], z, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_predictor_corrector_without_corrections_is_ddim(eta):
    schedule, key, times = schedules.Cosine(), jax.random.key(0), steps.linear(8)
    one = sample(schedule, key, (4, 3), times, corrections=0, eta=eta)
    other = sample(schedule, key, (4, 3), times, samplers.ddim, eta=eta)
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.heavy
def test_corrections_have_the_variance_of_langevin_steps_in_many_dimensions():
    # ‖ξ‖² and ‖g‖² are then d and d q/V², with q the variance of z and V that of the marginal.
    schedule, times, snr = schedules.RectifiedFlow(), steps.linear(8, 0.9, 0.1), 0.3
    run = functools.partial(sample, schedule, jax.random.key(0), (16, 8192), times)
    alpha, sigma = np.asarray(schedule.alpha(times)), np.asarray(schedule.sigma(times))
    errors = []
    for corrections in (0, 2):
        q = sigma[0] ** 2
        for i in range(8):
            marginal = alpha[i] ** 2 * VARIANCE + sigma[i] ** 2
            for _ in range(corrections):
                size = 2 * (alpha[i] / alpha[i + 1] * snr) ** 2 * marginal**2 / q
                q = (1 - size / marginal) ** 2 * q + 2 * size
            # Deterministic predictor: α_s x̂ + σ_s ε̂ is a factor times z.
            factor = alpha[i + 1] * alpha[i] * VARIANCE + sigma[i + 1] * sigma[i]
            q = (factor / marginal) ** 2 * q
        x = run(corrections=corrections, snr=snr, eta=0.0)
        # 131,072 draws: .4 % of a variance is one standard error.
        np.testing.assert_allclose(x.var(), q, rtol=0.02)
        errors.append(abs(q / (alpha[-1] ** 2 * VARIANCE + sigma[-1] ** 2) - 1))
    assert errors[1] < errors[0] / 2


@pytest.mark.heavy
def test_a_zero_score_takes_no_langevin_step():
    x = correctors.predictor_corrector(
        lambda z, t: z,
        jax.random.key(0),
        (2, 3),
        schedule=schedules.VE(),
        target=predictions.data,
        steps=steps.linear(4),
        start=jnp.ones((2, 3)),
        eta=0.0,
    )
    np.testing.assert_array_equal(x, 1)
