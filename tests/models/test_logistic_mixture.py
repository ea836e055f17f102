"""The parts of a mixture's numbers, and the image that they draw, against loops."""

from functools import partial

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


def test_pixels_are_drawn_with_their_probabilities():
    k, bins, n = 2, 3, 40_000
    parameters = 0.7 * numbers(3, k)[:1, :1, :1]
    draw = jax.jit(lambda u: logistic_mixture.draw(jnp.asarray(parameters), u, 3, k, bins=bins))
    draws = draw(np.random.default_rng(1).uniform(size=(n, 1, 1, 4)).astype(np.float32))
    every = np.array(list(np.ndindex(bins, bins, bins)))
    x = (2 * every / (bins - 1) - 1).reshape(-1, 1, 1, 3).astype(np.float32)
    found = np.broadcast_to(parameters, (len(x), 1, 1, parameters.shape[-1]))
    nll = jax.jit(partial(discretized_logistic_mixture_nll, low=-1.0, bins=bins))(found, x)
    p = np.exp(-np.asarray(nll, np.float64))
    assert p.sum() == pytest.approx(1, rel=1e-5)
    levels = np.rint((np.asarray(draws).reshape(n, 3) + 1) / 2 * (bins - 1)).astype(int)
    shares = np.bincount(levels @ (bins**2, bins, 1), minlength=len(every)) / n
    assert (np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-6).all()


def test_draws_are_levels_whatever_the_numbers():
    draw = jax.jit(partial(logistic_mixture.draw, channels=3, k=4))
    for u in (0.0, 0.5, 1 - 2**-24, 1.0):
        found = draw(numbers(3, 4), jnp.full((2, 2, 3, 4), u))
        levels = (np.asarray(found) + 1) * 127.5
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        assert levels.min() >= 0
        assert levels.max() <= 255
