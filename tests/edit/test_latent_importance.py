"""Weighted and resampled latents: moments, masses and effective samples in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit.latent_importance import importance_resampling
from tests.edit.decoders import (
    LATENT,
    MASK,
    PIXEL,
    linear,
    mass_above,
    observation,
    posterior,
    share_of_samples,
    two_roots,
)

pytestmark = pytest.mark.heavy
KEYS = jax.random.split(jax.random.key(0), 2)
Y, NOISE, SAMPLES, ANSWERS = observation(2), 2.0, 40_000, 10_000
SETTINGS = {"latent": (LATENT,), "noise": NOISE, "samples": SAMPLES, "answers": ANSWERS}
MEAN, COVARIANCE = posterior(Y, NOISE)
GUESS = jnp.float32(MEAN + 0.1), jnp.float32([1.5 * np.sqrt(np.diag(COVARIANCE))] * 2)


PRIOR = jnp.zeros((2, LATENT)), jnp.ones((2, LATENT))


@jax.jit
def solve(keys, y, proposal):
    settings = {**SETTINGS, "chunk": 999}  # which does not divide the samples
    return importance_resampling(linear, keys, y, MASK, proposal=proposal, **settings)


@pytest.fixture(scope="module", params=[PRIOR, GUESS], ids=["prior", "proposal"])
def found(request):
    return request.param, solve(KEYS, Y, request.param)


def test_answers_have_the_posterior_mean_and_covariance(found):
    """Of resampled draws a mean varies by σ² (1/effective + 1/answers)."""
    _, result = found
    error = np.sqrt(1 / np.asarray(result.effective_samples) + 1 / ANSWERS)[:, None]
    z = np.asarray(result.z, float) - MEAN[:, None]
    rows, columns = np.triu_indices(LATENT)
    products = z[..., rows] * z[..., columns] - COVARIANCE[rows, columns]
    for values in (z, products):
        assert np.abs(values.mean(1) / values.std(1) / error).max() < 4
    assert error.max() < 0.04  # the test sees errors of a sixth of a deviation
    np.testing.assert_allclose(result.x, jax.vmap(linear)(result.z), rtol=1e-5, atol=1e-4)


def test_effective_samples_are_those_of_the_weights_in_closed_form():
    result = solve(KEYS, Y, PRIOR)
    # The weights are bounded: their sums over 40,000 samples vary by a few percent.
    expected = SAMPLES * share_of_samples(Y, NOISE)
    np.testing.assert_allclose(result.effective_samples, expected, rtol=0.1)


def test_a_better_proposal_is_worth_more_samples():
    prior, guess = (solve(KEYS, Y, q).effective_samples for q in (PRIOR, GUESS))
    assert (guess > 2 * prior).all()


def test_an_example_depends_on_its_own_key_and_observation_alone():
    result, other = solve(KEYS, Y, PRIOR), solve(KEYS[::-1], Y[::-1] * 2, PRIOR)
    again = solve(KEYS[::-1], Y[::-1].at[0].set(0), PRIOR)
    np.testing.assert_array_equal(again.z[1], result.z[0])
    assert not np.array_equal(other.z[1], result.z[0])


def test_both_modes_have_their_masses():
    settings = {"latent": (1,), "noise": 0.1, "samples": 20_000, "answers": 5000}
    y = jnp.full((1, 1, 1, 1), 2.0)
    result = jax.jit(lambda y: importance_resampling(two_roots, KEYS[:1], y, PIXEL, **settings))(y)
    share = mass_above(0.1)
    error = np.sqrt(share * (1 - share) * (1 / result.effective_samples[0] + 1 / 5000))
    assert error < 0.02
    assert abs((result.z > 0).mean() - share) < 4 * error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "at least 1 sample"),
        ({"noise": 0.0}, "noise must be positive"),
        ({"proposal": (jnp.zeros((2, 4)), jnp.ones((2, 4)))}, r"must have shape \(2, 3\)"),
        ({"proposal": (jnp.zeros((2, 3)), jnp.ones((2, 4)))}, "one shape"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        importance_resampling(linear, KEYS, Y, MASK, **{**SETTINGS, **change})
