"""The most probable latent: the mean of a Gaussian posterior, and the higher of two maxima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit import latent_density
from genjax.edit.latent_maximum import maximum_a_posteriori
from genjax.edit.operator import Operator
from tests.edit.decoders import (
    KEEP,
    LATENT,
    MASK,
    NOISE,
    PIXEL,
    SHAPE,
    linear,
    observation,
    posterior,
    two_roots,
)

KEY = jax.random.key(0)
Y = observation(3)
SETTINGS = {"latent": (LATENT,), "noise": NOISE}


@jax.jit
def solve(key, y):
    # Deviations of the posterior differ 20-fold: by then every start has arrived.
    return maximum_a_posteriori(linear, key, y, MASK, steps=2000, **SETTINGS)


@pytest.fixture(scope="module")
def found():
    return solve(KEY, Y)


def test_of_a_linear_decoder_it_is_the_posterior_mean(found):
    np.testing.assert_allclose(found.z, posterior(Y)[0], atol=1e-4)
    np.testing.assert_allclose(found.x, linear(found.z), atol=1e-6)
    assert (found.gradient_norm < 1e-2).all()
    assert np.ptp(found.log_joint, axis=1).max() < 0.01  # one maximum: every start ends there


def test_its_value_is_the_log_density_at_the_best_start(found):
    seen = KEEP.ravel() > 0
    residual = (np.asarray(Y - found.x, float).reshape(3, -1) / NOISE)[:, seen]
    expected = -0.5 * (residual**2).sum(1) - 0.5 * (np.asarray(found.z, float) ** 2).sum(1)
    np.testing.assert_allclose(found.log_joint[jnp.arange(3), found.best], expected, rtol=1e-4)
    np.testing.assert_allclose(found.misfit, np.sqrt((residual**2).mean(1)), rtol=1e-4)


def test_a_prior_of_ones_own_and_a_noise_per_example_count():
    settings = {"latent": (LATENT,), "noise": jnp.array([NOISE, NOISE, 1e3])}

    @jax.jit
    def around_two(y):
        def prior(z):
            return -0.5 * jnp.sum((z - 2) ** 2, axis=1)

        return maximum_a_posteriori(linear, KEY, y, MASK, log_prior=prior, steps=2000, **settings)

    far = around_two(Y)
    np.testing.assert_allclose(far.z[2], 2, atol=1e-3)  # an observation of noise alone
    # z = 2 + u, u ~ N(0, I): the same problem for u, whose bias is b + W 2.
    moved = Y - (linear(jnp.full((1, LATENT), 2.0)) - linear(jnp.zeros((1, LATENT)))) * KEEP[None]
    np.testing.assert_allclose(far.z[:2], 2 + posterior(moved)[0][:2], atol=1e-4)


def test_the_best_of_many_starts_is_the_higher_of_two_maxima():
    """The prior prefers the root nearer to 0."""
    start = jnp.array([[[-2.0], [2.0], [-1.0]]])
    settings = {"latent": (1,), "noise": 0.05, "start": start, "starts": 3}

    @jax.jit
    def roots(y):
        return maximum_a_posteriori(two_roots, KEY, y, PIXEL, **settings)

    found = roots(jnp.full((1, 1, 1, 1), 2.0))
    np.testing.assert_allclose(found.ends[0, :, 0], [-1.572, 1.272, -1.572], atol=0.003)
    assert (found.best == 1).all()
    np.testing.assert_array_equal(found.z[:, 0], found.ends[:, 1, 0])


def test_an_example_depends_on_its_own_key_alone(found):
    """One key makes the keys of the examples by their index."""
    alone = solve(jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(1, 2)), Y[1:2]).ends
    np.testing.assert_allclose(found.ends[1:2], alone, rtol=1e-4, atol=1e-5)
    other = solve(jax.random.key(9)[None], Y[1:2]).ends
    assert not np.array_equal(other, alone)


def test_the_curvature_is_the_inverse_of_the_posterior_covariance():
    noise = jnp.array([NOISE, 3.0])
    z = jax.random.normal(KEY, (2, 5, LATENT))
    found = jax.jit(lambda z: latent_density.precision(linear, MASK, z, noise))(z)
    for matrix, std in zip(found, (NOISE, 3.0), strict=True):
        right = np.linalg.inv(posterior(Y, std)[1])
        np.testing.assert_allclose(matrix, right, rtol=1e-4, atol=1e-3)


def test_codes_are_whitened_by_their_mean_and_covariance():
    codes = np.random.default_rng(0).normal(size=(500, 2)) @ [[2, 1], [0, 0.5]] + 3
    codes = codes.astype(np.float32)
    seen = np.asarray(
        latent_density.whitened(lambda z: z, codes)(np.float32([[0, 0], [1, 0], [0, 1]]))
    )
    mean, factor = seen[0], (seen[1:] - seen[:1]).T
    np.testing.assert_allclose(mean, codes.mean(0), rtol=1e-5)
    np.testing.assert_allclose(factor @ factor.T, np.cov(codes.T), rtol=1e-4)
    with pytest.raises(ValueError, match="codes of 2 numbers need more than 2 images, not 2"):
        latent_density.whitened(lambda z: z, codes[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 0.0}, "noise must be positive"),
        ({"noise": jnp.ones(2)}, r"noise must be a scalar or one value per example \[3\]"),
        ({"starts": 0}, "at least one start"),
        ({"start": jnp.zeros((3, 1, LATENT))}, r"start must have shape \(3, 8, 3\)"),
        ({"latent": (LATENT + 1,)}, "dot_general"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    error = TypeError if "dot" in message else ValueError
    with pytest.raises(error, match=message):
        maximum_a_posteriori(linear, KEY, Y, MASK, **{**SETTINGS, **change})


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="but decoded images are observed as"):
        maximum_a_posteriori(linear, KEY, Y[..., 0], MASK, **SETTINGS)
    with pytest.raises(ValueError, match="4 keys for 3"):
        maximum_a_posteriori(linear, jax.random.split(KEY, 4), Y, MASK, **SETTINGS)
    other = Operator(lambda x: x, (3, 2, 1))
    with pytest.raises(ValueError, match=r"takes images of shape \(3, 2, 1\)"):
        maximum_a_posteriori(linear, KEY, Y, other, **SETTINGS)
    assert other.shape != SHAPE
