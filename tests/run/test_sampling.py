"""Latents, paths between them, and images in chunks."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.errors import ConfigError
from genjax.run import Family, RestoredRun
from genjax.run.family import untrained_state
from genjax.run.sampling import CHUNK, Sampler, labels, linear, spherical

SYSTEM = Family(
    game={},
    init=lambda key, before: ({}, {}),
    latent=(3,),
    generate=lambda state, key, z, label: (
        jax.nn.sigmoid(z)[:, None, None, :] + (0 if label is None else label[:, None, None, None])
    ),
    validate=lambda state, keys, batch: {},
    classes=4,
)
KEY = jax.random.key(0)


def test_image_i_of_a_seed_is_the_same_for_every_number_of_images():
    np.testing.assert_array_equal(SYSTEM.latents(KEY, 9)[:4], SYSTEM.latents(KEY, 4))
    few = Sampler(SYSTEM).images(None, KEY, SYSTEM.latents(KEY, 4))
    many = Sampler(SYSTEM).images(None, KEY, SYSTEM.latents(KEY, 2 * CHUNK + 3))
    assert many.shape == (2 * CHUNK + 3, 1, 1, 3)
    np.testing.assert_array_equal(many[:4], few)
    expected = np.rint(255 / (1 + np.exp(-np.asarray(SYSTEM.latents(KEY, 2 * CHUNK + 3)))))
    np.testing.assert_array_equal(many[:, 0, 0], expected)


def test_labels_take_every_class_in_turn():
    np.testing.assert_array_equal(labels(SYSTEM, 6), [0, 1, 2, 3, 0, 1])


def test_a_great_arc_keeps_the_norm_and_has_constant_speed():
    start, end = jnp.array([2.0, 0, 0]), jnp.array([0, 2.0, 0])
    arc = spherical(start, end, jnp.linspace(0, 1, 5))
    angles = jnp.linspace(0, jnp.pi / 2, 5)
    expected = 2 * jnp.stack([jnp.cos(angles), jnp.sin(angles), 0 * angles], axis=1)
    np.testing.assert_allclose(arc, expected, atol=1e-6)


def test_between_parallel_noises_the_arc_is_a_line():
    start = jnp.ones((2, 2, 1))
    t = jnp.linspace(0, 1, 3)
    np.testing.assert_allclose(spherical(start, start, t), jnp.ones((3, 2, 2, 1)), rtol=1e-6)
    np.testing.assert_allclose(spherical(start, 3 * start, t), linear(start, 3 * start, t))


def test_a_line_reaches_both_ends():
    start, end = jnp.zeros((2, 2)), jnp.ones((2, 2))
    line = linear(start, end, jnp.array([0, 0.25, 1]))
    np.testing.assert_array_equal(line[:, 0, 0], [0, 0.25, 1])


def test_interpolation_needs_two_held_out_images_per_pair():
    pixels = np.zeros((6, 1, 1, 1), np.uint8)
    family = replace(SYSTEM, encode=lambda state, images: jnp.zeros((len(images), 3)), classes=None)
    images = data.Dataset(data.DataSettings(), {"test": data.images_from_arrays(pixels)})
    run = RestoredRun(Path("any"), family, {}, untrained_state(family, KEY), images)
    assert run.interpolate(3, 2).shape == (6, 1, 1, 3)
    with pytest.raises(ConfigError, match="--pairs 4 takes 8 held-out images, and there are 6"):
        run.interpolate(4, 2)
