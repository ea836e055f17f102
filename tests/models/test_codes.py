"""The Gaussian fitted to codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import codes

MEAN = np.array([1.0, -2.0, 0.5])
FACTOR = np.array([[2.0, 0, 0], [0.5, 1.0, 0], [-1.0, 0.3, 0.2]])


def sample(seed, n):
    z = np.random.default_rng(seed).normal(size=(n, 3))
    return jnp.asarray(MEAN + z @ FACTOR.T, jnp.float32)


def fitted():
    moments = codes.standard(3)
    for seed in range(300):
        moments = codes.update(moments, sample(seed, 1000), momentum=0.95)
    return moments


def test_the_fit_finds_mean_and_covariance():
    moments = fitted()
    np.testing.assert_allclose(moments["mean"], MEAN, atol=0.05)
    covariance = moments["square"] - jnp.outer(moments["mean"], moments["mean"])
    np.testing.assert_allclose(covariance, FACTOR @ FACTOR.T, atol=0.1)


@pytest.mark.heavy
def test_coloured_noise_has_the_moments_of_the_codes():
    z = jax.random.normal(jax.random.key(0), (50_000, 3))
    drawn = codes.colour(fitted(), z)
    np.testing.assert_allclose(drawn.mean(0), MEAN, atol=0.05)
    np.testing.assert_allclose(jnp.cov(drawn.T), FACTOR @ FACTOR.T, atol=0.15)


@pytest.mark.heavy
def test_whitening_undoes_colouring():
    z = jax.random.normal(jax.random.key(0), (100, 3))
    np.testing.assert_allclose(codes.whiten(fitted(), codes.colour(fitted(), z)), z, atol=1e-3)


@pytest.mark.heavy
def test_codes_that_span_fewer_dimensions_have_a_cholesky_factor():
    flat = jnp.concatenate([sample(0, 1000)[:, :1]] * 3, axis=1)
    moments = codes.standard(3)
    for _ in range(2000):
        moments = codes.update(moments, flat)
    drawn = codes.colour(moments, jax.random.normal(jax.random.key(0), (1000, 3)))
    assert jnp.all(jnp.isfinite(drawn))
    np.testing.assert_allclose(drawn[:, 0], drawn[:, 1], atol=0.1)


def test_moments_of_halves_average_to_those_of_the_batch():
    full = codes.update(codes.standard(3), sample(0, 1000))
    halves = [codes.update(codes.standard(3), part) for part in jnp.split(sample(0, 1000), 2)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), full, mean)
