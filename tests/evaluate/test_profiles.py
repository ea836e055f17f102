"""Profiles against closed forms: the KL term per dimension, the loss at each time, the axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.evaluate import profiles


def test_the_kl_term_of_each_dimension():
    mean = jnp.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    variance = jnp.array([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5]])
    profile = profiles.kl_per_dimension(lambda state, batch: (mean, jnp.log(variance)))
    x, y = profile.values(None, None, None)
    # N(2, 1): half of 4, for one image of two; N(0, 1/2): (1/2 - 1 + log 2) / 2; N(0, 1): 0.
    np.testing.assert_allclose(y, [1.0, (np.log(2) - 0.5) / 2, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(x, [1, 2, 3])


def test_the_activity_of_each_dimension():
    def encode(state, image):
        return state * jnp.stack([image[:, 0, 0, 0] * 0 + 7, image[:, 0, 0, 0]], 1)

    image = jnp.array([0.0, 2.0, 4.0, 6.0]).reshape(4, 1, 1, 1)
    x, y = profiles.activity_per_dimension(encode).values(3.0, None, {"image": image})
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_allclose(y, [9 * 5, 0], atol=1e-5)


def test_the_kl_term_of_each_block():
    profile = profiles.kl_per_block(lambda state, keys, batch: jnp.array([[1.0, 4.0], [3.0, 0.0]]))
    x, y = profile.values(None, None, None)
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_array_equal(y, [2, 2])


def test_the_loss_at_each_time():
    def validate(state, keys, batch, t):
        return {"mse": state * t**2 + batch, "other": jnp.full(3, jnp.nan)}

    profile = profiles.per_noise_level(validate, (0.1, 0.5, 0.9))
    keys, batch = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 2.0, 3.0])
    t, loss = jax.jit(profile.values)(4.0, keys, batch)
    np.testing.assert_allclose(t, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(loss, 4 * np.array([0.01, 0.25, 0.81]) + 2, rtol=1e-6)


def test_codes_are_projected_to_their_widest_axes():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(500, 2)) * (5, 2)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 2)))
    xy, share = profiles.projection(plane @ basis.T + 7)
    assert share == pytest.approx(1)
    centred = plane - plane.mean(0)
    # Distances are kept, whatever the rotation within the plane.
    np.testing.assert_allclose(xy @ xy.T, centred @ centred.T, atol=1e-9)
    assert xy[:, 0].std() > xy[:, 1].std()
    assert profiles.projection(rng.normal(size=(4000, 4)))[1] == pytest.approx(0.5, abs=0.05)
    assert profiles.projection(np.ones((3, 4)))[1] == 0
