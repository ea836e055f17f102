"""Predictions against their definitions, and the conversions among all of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from genjax.diffusion import predictions, schedules

EVERY = {
    "noise": predictions.noise,
    "data": predictions.data,
    "velocity": predictions.velocity,
    "score": predictions.score,
    "flow": predictions.flow,
    "edm": predictions.edm,
}
# α and σ of VP, rectified flow, EDM and arbitrary ones, one per example.
ALPHA = jnp.array([0.6, 0.75, 1.0, 0.3])
SIGMA = jnp.array([0.8, 0.25, 5.0, 0.2])


@pytest.fixture
def x_and_eps():
    return jax.random.normal(jax.random.key(0), (2, 4, 3, 2))


def noisy(x, eps, alpha=ALPHA, sigma=SIGMA):
    return alpha[:, None, None] * x + sigma[:, None, None] * eps


@pytest.mark.parametrize("name", EVERY)
def test_data_and_noise_are_recovered_from_the_target(name, x_and_eps):
    x, eps = x_and_eps
    target = EVERY[name].of(x, eps, ALPHA, SIGMA)
    z = noisy(x, eps)
    # σ/α is at most 5, so at most that many roundings are amplified.
    np.testing.assert_allclose(EVERY[name].to_data(target, z, ALPHA, SIGMA), x, atol=1e-5)
    np.testing.assert_allclose(EVERY[name].to_noise(target, z, ALPHA, SIGMA), eps, atol=1e-5)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(EVERY, EVERY)))
def test_every_prediction_converts_into_every_other(source, target, x_and_eps):
    x, eps = x_and_eps
    given = EVERY[source].of(x, eps, ALPHA, SIGMA)
    converted = predictions.convert(
        given, noisy(x, eps), ALPHA, SIGMA, source=EVERY[source], target=EVERY[target]
    )
    np.testing.assert_allclose(converted, EVERY[target].of(x, eps, ALPHA, SIGMA), atol=5e-5)


@pytest.mark.parametrize("name", EVERY)
def test_error_scale_is_the_ratio_to_the_noises_squared_error(name, x_and_eps):
    x, eps = x_and_eps
    target = EVERY[name].of(x, eps, ALPHA, SIGMA)
    wrong = target + jnp.cos(7 * x)
    z = noisy(x, eps)
    error = EVERY[name].to_noise(wrong, z, ALPHA, SIGMA) - EVERY[name].to_noise(
        target, z, ALPHA, SIGMA
    )
    ratio = jnp.sum(jnp.cos(7 * x) ** 2, (1, 2)) / jnp.sum(error**2, (1, 2))
    np.testing.assert_allclose(EVERY[name].error_scale(ALPHA, SIGMA), ratio, rtol=1e-4)


def test_score_is_the_gradient_of_the_log_density(x_and_eps):
    x, eps = x_and_eps
    alpha, sigma = 0.6, 0.8
    z = alpha * x + sigma * eps
    gradient = jax.grad(lambda z: norm.logpdf(z, alpha * x, sigma).sum())(z)
    np.testing.assert_allclose(predictions.score.of(x, eps, alpha, sigma), gradient, atol=1e-6)


def test_flow_is_dz_dt_of_rectified_flow_and_velocity_dz_dangle_of_the_circle(x_and_eps):
    x, eps = x_and_eps
    flow = schedules.RectifiedFlow()
    _, change = jax.jvp(lambda t: flow.alpha(t) * x + flow.sigma(t) * eps, (0.3,), (1.0,))
    np.testing.assert_allclose(predictions.flow.of(x, eps, 0.7, 0.3), change, atol=1e-6)
    _, change = jax.jvp(lambda a: jnp.cos(a) * x + jnp.sin(a) * eps, (0.4,), (1.0,))
    v = predictions.velocity.of(x, eps, jnp.cos(0.4), jnp.sin(0.4))
    np.testing.assert_allclose(v, change, atol=1e-6)


def test_edm_is_the_preconditioning_of_karras_et_al(x_and_eps):
    x, eps = x_and_eps
    sigma, s = jnp.array([0.01, 0.5, 3.0, 80.0]), 0.5
    one, wide = jnp.ones(4), sigma[:, None, None]
    z = x + wide * eps
    skip, out = s**2 / (wide**2 + s**2), wide * s / jnp.sqrt(wide**2 + s**2)
    network = jnp.sin(z)
    np.testing.assert_allclose(
        predictions.edm.to_data(network, z, one, sigma), skip * z + out * network, rtol=1e-5
    )
    np.testing.assert_allclose(
        predictions.edm.of(x, eps, one, sigma), (x - skip * z) / out, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        predictions.edm.input_scale(one, sigma), 1 / np.sqrt(sigma**2 + s**2), rtol=1e-6
    )


def test_edm_of_unit_data_on_the_circle_is_minus_velocity(x_and_eps):
    x, eps = x_and_eps
    unit = predictions.Preconditioned(data_std=1.0)
    minus_v = -predictions.velocity.of(x, eps, 0.6, 0.8)
    np.testing.assert_allclose(unit.of(x, eps, 0.6, 0.8), minus_v, atol=1e-6)


@pytest.mark.parametrize("name", ["velocity", "flow", "edm"])
def test_both_ends_of_the_noise_are_exact(name, x_and_eps):
    x, eps = x_and_eps
    prediction = EVERY[name]
    for alpha, sigma in ((1.0, 0.0), (0.0, 1.0), (1.0, 1e-20), (1e-20, 1.0)):
        z = alpha * x + sigma * eps
        target = prediction.of(x, eps, alpha, sigma)
        np.testing.assert_allclose(prediction.to_data(target, z, alpha, sigma), x, atol=1e-6)
        np.testing.assert_allclose(prediction.to_noise(target, z, alpha, sigma), eps, atol=1e-6)


def test_scales_of_another_batch_size_raise(x_and_eps):
    x, eps = x_and_eps
    with pytest.raises(ValueError, match=r"\(3,\) for \(4, 3, 2\)"):
        predictions.velocity.of(x, eps, ALPHA[:3], SIGMA[:3])
