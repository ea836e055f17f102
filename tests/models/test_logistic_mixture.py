"""The parts of a mixture's numbers, and the image that they draw, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses.likelihoods import discretized_logistic_mixture_nll
from genjax.models import logistic_mixture


def numbers(channels, k, seed=0):
    size = logistic_mixture.outputs(channels, k)
    return np.random.default_rng(seed).normal(size=(2, 2, 3, size)).astype(np.float32)


@pytest.mark.parametrize(("channels", "k", "size"), [(1, 5, 15), (3, 10, 100), (4, 2, 30)])
def test_the_likelihood_takes_as_many_numbers(channels, k, size):
    found, x = numbers(channels, k), jnp.zeros((2, 2, 3, channels))
    assert found.shape[-1] == size
    assert jax.eval_shape(discretized_logistic_mixture_nll, found, x).shape == (2,)
    shapes = [part.shape[-2:] for part in logistic_mixture.split(found, channels, k)]
    assert shapes == [(1, k), (channels, k), (channels, k), (channels * (channels - 1) // 2, k)]


def test_the_likeliest_logistic_draws_the_image():
    k, parameters = 4, numbers(3, 4)
    found = np.asarray(logistic_mixture.likeliest(parameters, 3, k))
    for place in np.ndindex(2, 2, 3):
        p = parameters[place].reshape(-1, k)
        best = p[0].argmax()
        red = np.clip(p[1, best], -1, 1)
        a, b, c = np.tanh(p[7:10, best])
        green = np.clip(p[2, best] + a * red, -1, 1)
        blue = np.clip(p[3, best] + b * red + c * green, -1, 1)
        np.testing.assert_allclose(found[place] * 2 - 1, [red, green, blue], atol=1e-6)


def test_log_scales_have_a_floor_and_nothing_else_changes():
    k, parameters = 3, 20 * numbers(3, 3)
    found = logistic_mixture.floored(jnp.asarray(parameters), 3, k, shift=-2.0)
    before = logistic_mixture.split(parameters, 3, k)
    after = logistic_mixture.split(found, 3, k)
    np.testing.assert_array_equal(after[2], np.maximum(before[2] - 2, -7))
    assert (after[2] == -7).any()
    for i in (0, 1, 3):
        np.testing.assert_array_equal(after[i], before[i])
