"""Dequantised bits per dimension against densities whose discrete probabilities are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.evaluate.dequantization import dequantized_bits_per_dim

MEAN, STD = 0.1, 0.004  # on [−1, 1], where the 256 grey levels are 2/255 = 0.0078 apart
X = np.random.default_rng(0).integers(139, 142, (1, 2, 2, 1)).astype(np.uint8)
DRAWS = 20_000


def gaussian(y):
    logs = -0.5 * ((y - MEAN) / STD) ** 2 - math.log(STD) - 0.5 * math.log(2 * math.pi)
    return logs.sum((1, 2, 3))


@pytest.fixture(scope="module")
def draws():
    """−log₂ p(x + u)/D of one image under many u."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    images = jnp.broadcast_to(jnp.asarray(X), (DRAWS, *X.shape[1:]))
    return np.asarray(dequantized_bits_per_dim(gaussian, images, keys), np.float64)


def exact():
    """−log₂ P(x)/D, P the mass of each element's bin."""
    edges = (X.ravel() + np.array([[-0.5], [0.5]])) / 127.5 - 1
    low, high = stats.norm(MEAN, STD).cdf(edges)
    return -np.log2(high - low).mean()


@pytest.mark.heavy
def test_the_uniform_density_costs_eight_bits():
    width = 2 / 255
    volume = 2 + width  # the outer bins reach half a bin past −1 and 1

    def log_density(y):
        inside = (jnp.abs(y) <= 1 + width / 2 + 1e-6).all((1, 2, 3))
        return jnp.where(inside, -y[0].size * math.log(volume), -jnp.inf)

    image = jnp.arange(256, dtype=jnp.uint8).reshape(4, 8, 8, 1)
    bits = dequantized_bits_per_dim(log_density, image, jax.random.key(0))
    np.testing.assert_allclose(bits, 8, rtol=1e-6)


@pytest.mark.heavy
def test_the_mean_is_an_upper_bound_of_the_exact_bits(draws):
    error = draws.std() / DRAWS**0.5
    assert draws.mean() - exact() > 10 * error  # a Gaussian of half a bin: the gap is seen


def test_the_mean_density_over_the_bin_is_the_exact_probability(draws):
    size = X.size
    density = 2.0 ** (-size * draws)
    error = density.std() / DRAWS**0.5
    assert abs(density.mean() - 2 ** (-size * exact())) < 4 * error


def test_the_gap_closes_where_the_density_is_smooth():
    def wide(y):
        return stats_wide(y).sum((1, 2, 3))

    def stats_wide(y):
        return -0.5 * (y - MEAN) ** 2 - 0.5 * math.log(2 * math.pi)

    edges = (X.ravel() + np.array([[-0.5], [0.5]])) / 127.5 - 1
    low, high = stats.norm(MEAN, 1).cdf(edges)
    bits = dequantized_bits_per_dim(wide, jnp.asarray(X), jax.random.key(0))
    # Over a bin log p changes by w·|y − μ| < 2e-4 nats.
    np.testing.assert_allclose(bits, -np.log2(high - low).mean(), atol=2e-4)


def test_the_scale_of_training_does_not_matter():
    def of_halves(y):  # the same density, on [0, 1]
        return gaussian(2 * y - 1) + y[0].size * math.log(2)

    key = jax.random.key(0)
    one = dequantized_bits_per_dim(gaussian, jnp.asarray(X), key)
    other = dequantized_bits_per_dim(of_halves, jnp.asarray(X), key, low=0.0)
    np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.heavy
def test_noise_is_keyed_per_image_and_float_images_raise():
    image = jnp.broadcast_to(jnp.asarray(X), (3, *X.shape[1:]))
    keys = jax.random.split(jax.random.key(0), 3)
    bits = dequantized_bits_per_dim(gaussian, image, keys)
    np.testing.assert_array_equal(bits[1:], dequantized_bits_per_dim(gaussian, image[1:], keys[1:]))
    with pytest.raises(ValueError, match="integers 0 … 255"):
        dequantized_bits_per_dim(gaussian, image / 255, keys)
    with pytest.raises(ValueError, match="one key, or one per example"):
        dequantized_bits_per_dim(gaussian, image, keys[:2])
