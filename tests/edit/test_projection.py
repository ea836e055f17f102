"""Projection: onto images a generator can make, from the mean latent, with the paper's schedule."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit.operator import Operator
from genjax.edit.projection import latent_moments, project
from tests.edit.decoders import KEEP, LATENT, MASK, SHAPE, linear

KEYS = jax.random.split(jax.random.key(0), 2)
WHOLE = Operator(lambda x: x, SHAPE, gram=1.0)
Z = jnp.array([[0.5, -1.0, 1.0], [-0.2, 0.8, 3.0]])


def mapping(z):
    return 2 * z + jnp.array([[1.0, -1.0, 0.0]])


def narrow(w):  # every number of the latent is seen as well
    return linear(w * jnp.array([[0.1, 1.0, 10.0]]))


@jax.jit
def solve(keys, y):
    return project(narrow, keys, y, WHOLE, latent=(LATENT,), steps=400)


def test_an_image_that_the_generator_can_make_is_found():
    found = solve(KEYS, narrow(Z))
    np.testing.assert_allclose(found.z, Z, atol=0.01)
    np.testing.assert_allclose(found.x, narrow(found.z), rtol=1e-5)
    assert (found.distance < 1e-4).all()
    np.testing.assert_allclose(found.departure, np.linalg.norm(Z, axis=1) / 3**0.5, rtol=0.02)


def test_an_example_depends_on_its_own_key_and_image_alone():
    y = narrow(Z)
    found, other = solve(KEYS, y), solve(KEYS[::-1], y[::-1].at[0].set(0))
    np.testing.assert_array_equal(found.z[0], other.z[1])
    assert not np.array_equal(found.z, solve(KEYS[::-1], y).z)


def test_it_starts_from_the_mean_latent_of_the_mapping():
    mean, std = latent_moments(mapping, (LATENT,))
    np.testing.assert_allclose(mean, [1, -1, 0], atol=0.1)
    np.testing.assert_allclose(std, 2 * 3**0.5, rtol=0.03)
    zero, unit = latent_moments(None, (LATENT,))
    np.testing.assert_array_equal(zero, 0)
    np.testing.assert_allclose(unit, 3**0.5, rtol=1e-6)
    # The rate is 0 at the first step.
    start = project(narrow, KEYS, narrow(Z), WHOLE, latent=(LATENT,), mapping=mapping, steps=1)
    np.testing.assert_allclose(start.z, jnp.stack([mean, mean]), rtol=1e-6)
    np.testing.assert_allclose(start.departure, 0, atol=1e-6)


def test_a_distance_of_ones_own_and_hidden_pixels_count():
    def absolute(seen, y):
        return jnp.abs(seen - y).sum((1, 2, 3))

    y = (narrow(Z) + 5 * (1 - KEEP)[None]) * KEEP[None]
    found = jax.jit(
        lambda y: project(narrow, KEYS, y, MASK, latent=(LATENT,), distance=absolute, steps=400)
    )(y)
    np.testing.assert_allclose(found.z, Z, atol=0.05)
    np.testing.assert_allclose(found.distance, absolute(MASK(found.x), y), rtol=1e-4, atol=1e-4)


def test_rate_and_noise_follow_the_schedules_of_the_paper():
    """Down a constant slope Adam moves by its rate, and what is decoded besides is noise."""
    steps, seen = 40, []

    def decode(w):
        jax.debug.callback(lambda w: seen.append(np.asarray(w)), w, ordered=True)
        return jnp.broadcast_to(w.sum(1)[:, None, None, None], (len(w), *SHAPE))

    def height(x, y):
        return x.sum((1, 2, 3))

    y = jnp.zeros((1000, *SHAPE))
    found = project(decode, KEYS[0], y, WHOLE, latent=(LATENT,), distance=height, steps=steps)
    t = np.arange(steps) / steps
    rate = 0.1 * np.minimum(1, t / 0.05)
    rate *= 0.5 - 0.5 * np.cos(np.pi * np.minimum(1, (1 - t) / 0.25))
    np.testing.assert_allclose(found.z, -rate.sum(), rtol=1e-4)
    on_the_way = -np.concatenate([[0], np.cumsum(rate)])[:steps]
    noise = np.stack(seen[:steps]) - on_the_way[:, None, None]
    expected = 0.05 * 3**0.5 * np.maximum(0, 1 - t / 0.75) ** 2
    np.testing.assert_allclose(noise.std((1, 2)), expected, rtol=0.06, atol=1e-5)


def test_the_defaults_are_those_of_stylegan2():
    """arXiv:1912.04958, appendix D."""
    signature = inspect.signature(project).parameters
    paper = {
        "samples": 10_000,
        "steps": 1000,
        "rate": 0.1,
        "noise": 0.05,
        "noise_ramp": 0.75,
        "warm_up": 0.05,
        "cool_down": 0.25,
    }
    assert {name: signature[name].default for name in paper} == paper


def test_wrong_settings_are_refused():
    y = narrow(Z)
    with pytest.raises(ValueError, match="at least 1 step"):
        project(narrow, KEYS, y, WHOLE, latent=(LATENT,), steps=0)
    with pytest.raises(ValueError, match=r"shares in 0\.\.1"):
        project(narrow, KEYS, y, WHOLE, latent=(LATENT,), warm_up=0.0)
    with pytest.raises(ValueError, match="but decoded images are observed as"):
        project(narrow, KEYS, y[:, :1], WHOLE, latent=(LATENT,))
