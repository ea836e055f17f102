"""Paths between latents: ends, speed, and where the arc is a line."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.edit.interpolation import linear, spherical


def test_a_great_arc_keeps_the_norm_and_has_constant_speed():
    start, end = jnp.array([2.0, 0, 0]), jnp.array([0, 2.0, 0])
    arc = spherical(start, end, jnp.linspace(0, 1, 5))
    angles = jnp.linspace(0, jnp.pi / 2, 5)
    expected = 2 * jnp.stack([jnp.cos(angles), jnp.sin(angles), 0 * angles], axis=1)
    np.testing.assert_allclose(arc, expected, atol=1e-6)


def test_both_ends_are_exact():
    start, end = jax.random.normal(jax.random.key(0), (2, 7, 5))
    for path in (linear, spherical):
        way = path(start, end, jnp.array([0.0, 0.3, 1.0]))
        np.testing.assert_array_equal(way[0], start)
        np.testing.assert_array_equal(way[2], end)


def test_between_parallel_noises_the_arc_is_a_line():
    start = jnp.ones((2, 2, 1))
    t = jnp.linspace(0, 1, 3)
    np.testing.assert_allclose(spherical(start, start, t), jnp.ones((3, 2, 2, 1)), rtol=1e-6)
    np.testing.assert_allclose(spherical(start, 3 * start, t), linear(start, 3 * start, t))


def test_a_line_reaches_both_ends():
    start, end = jnp.zeros((2, 2)), jnp.ones((2, 2))
    line = linear(start, end, jnp.array([0, 0.25, 1]))
    np.testing.assert_array_equal(line[:, 0, 0], [0, 0.25, 1])
