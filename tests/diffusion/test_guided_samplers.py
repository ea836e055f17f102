"""CFG++ and APG against their algorithms in NumPy, and where they are plain DDIM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import (
    guidance,
    guided_samplers,
    predictions,
    samplers,
    sampling_loop,
    schedules,
    steps,
)

pytestmark = pytest.mark.heavy
SCHEDULE, SHAPE = schedules.VP(), (3, 4)


@pytest.fixture(autouse=True)
def table(monkeypatch):
    table = np.random.default_rng(0).standard_normal((8, *SHAPE))
    monkeypatch.setattr(sampling_loop, "_normal", lambda key, i, *_: jnp.asarray(table)[i])
    with jax.enable_x64(True):
        yield table


def denoise(shift, z, alpha, sigma, xp=np):
    y = z / (alpha**2 + sigma**2) ** 0.5
    return 0.8 * y * alpha - 0.3 * xp.sin(y + shift) + shift


def model(shift):
    def predict(z, t):
        alpha, sigma = SCHEDULE.alpha(t)[:, None], SCHEDULE.sigma(t)[:, None]
        return denoise(shift, z, alpha, sigma, jnp)

    return predict


CONDITIONAL, UNCONDITIONAL = model(0.7), model(-0.4)


def run(sampler, *networks, **options):
    return jax.jit(
        lambda: sampler(
            *networks,
            None,
            SHAPE,
            schedule=SCHEDULE,
            target=predictions.data,
            steps=steps.linear(5, 0.95),
            trajectory=True,
            **options,
        )[1]
    )()


def both(sampler, **options):
    return run(sampler, CONDITIONAL, UNCONDITIONAL, **options)


def levels():
    times = steps.linear(5, 0.95)
    alpha, sigma = np.array(SCHEDULE.alpha(times)), np.array(SCHEDULE.sigma(times))
    alpha[-1], sigma[-1] = 1, 0
    return alpha, sigma


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_cfg_plus_plus_renoises_by_the_unconditional_noise(table, eta):
    scale = np.array([0.2, 0.6, 1.0])
    path = both(guided_samplers.cfg_plus_plus, scale=jnp.asarray(scale), eta=eta)
    (alpha, sigma), z = levels(), path[0]
    for i in range(5):
        # Chung et al. 2024, algorithm 2, with the σ of DDIM.
        std = eta * np.sqrt(1 - (alpha[i] * sigma[i + 1] / (sigma[i] * alpha[i + 1])) ** 2)
        positive, negative = (denoise(s, z, alpha[i], sigma[i]) for s in (0.7, -0.4))
        data = negative + scale[:, None] * (positive - negative)
        noise = (z - alpha[i] * negative) / sigma[i]
        z = alpha[i + 1] * data + sigma[i + 1] * np.sqrt(1 - std**2) * noise
        z = z + sigma[i + 1] * std * table[i + 1]
        np.testing.assert_allclose(path[i + 1], z, rtol=1e-9)


def test_cfg_plus_plus_of_scale_0_is_unconditional():
    path = both(guided_samplers.cfg_plus_plus, scale=0.0)
    np.testing.assert_allclose(path, run(samplers.ddim, UNCONDITIONAL), rtol=1e-12)


def test_apg_is_algorithm_1():
    scale, momentum, norm, parallel = 6.0, -0.5, 1.5, 0.2
    path = both(
        guided_samplers.adaptive_projected,
        scale=scale,
        momentum=momentum,
        norm=norm,
        parallel=parallel,
    )
    (alpha, sigma), z, average = levels(), path[0], 0
    shortened = 0
    for i in range(5):
        positive, negative = (denoise(s, z, alpha[i], sigma[i]) for s in (0.7, -0.4))
        average = momentum * average + positive - negative
        size = np.linalg.norm(average, axis=1, keepdims=True)
        shortened += (size > norm).sum()
        update = average * np.minimum(1, norm / size)
        unit = positive / np.linalg.norm(positive, axis=1, keepdims=True)
        along = (update * unit).sum(1, keepdims=True) * unit
        data = positive + (scale - 1) * (update - along + parallel * along)
        noise = (z - alpha[i] * data) / sigma[i]
        z = alpha[i + 1] * data + sigma[i + 1] * noise
        np.testing.assert_allclose(path[i + 1], z, rtol=1e-9)
    assert 0 < shortened < 15


def test_apg_without_momentum_is_ddim_with_projected_guidance():
    scale = jnp.array([1.0, 3.0, 6.0])
    path = both(guided_samplers.adaptive_projected, scale=scale, norm=1.5)
    guided = guidance.projected(
        CONDITIONAL, UNCONDITIONAL, scale, schedule=SCHEDULE, target=predictions.data, norm=1.5
    )
    np.testing.assert_allclose(path, run(samplers.ddim, guided), rtol=1e-9)
    np.testing.assert_allclose(path[:, 0], run(samplers.ddim, CONDITIONAL)[:, 0], rtol=1e-9)


def test_the_clip_bounds_the_guided_data_and_the_noise_follows():
    clip = (-0.5, 0.6)
    path = both(guided_samplers.adaptive_projected, scale=6.0, clip=clip)
    (alpha, sigma), z = levels(), path[0]
    positive, negative = (np.clip(denoise(s, z, alpha[0], sigma[0]), *clip) for s in (0.7, -0.4))
    data = np.clip(positive + 5 * guidance.project(positive - negative, positive), *clip)
    noise = (z - alpha[0] * data) / sigma[0]
    np.testing.assert_allclose(path[1], alpha[1] * data + sigma[1] * noise, rtol=1e-9)
    assert path[-1].min() >= -0.5
    assert path[-1].max() <= 0.6
