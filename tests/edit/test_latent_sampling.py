"""Chains on posteriors in closed form, with tests that would find a wrong acceptance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit import hamiltonian
from genjax.edit.chains import effective_sample_size
from genjax.edit.latent_sampling import hmc, mala
from tests.edit.decoders import (
    LATENT,
    MASK,
    NOISE,
    PIXEL,
    W,
    linear,
    mass_above,
    observation,
    posterior,
    two_roots,
)

pytestmark = pytest.mark.heavy
KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 2)
Y = observation(2)
SETTINGS = {"latent": (LATENT,), "noise": NOISE, "chains": 16}
EFFECTIVE = jax.jit(jax.vmap(effective_sample_size))
METHODS = {
    "hmc": (hmc, {"draws": 500, "warmup": 200, "leapfrogs": 4}),
    "mala": (mala, {"draws": 500, "warmup": 300, "thin": 4}),
}


def solver(name):
    method, own = METHODS[name]
    return jax.jit(lambda key, y: method(linear, key, y, MASK, **SETTINGS, **own))


@pytest.fixture(scope="module", params=METHODS)
def found(request):
    solve = solver(request.param)
    return request.param, solve, solve(KEYS, Y)


def errors(z):
    """Means and second moments less those of the posterior, in standard errors, [n, 9]."""
    mean, covariance = posterior(Y)
    z = np.asarray(z, np.float64) - mean[:, None, None]  # [n, chains, draws, 3]
    rows, columns = np.triu_indices(LATENT)
    products = z[..., rows] * z[..., columns] - covariance[rows, columns]

    values = np.concatenate([z, products], -1)
    effective = EFFECTIVE(np.float32(values))
    return values.mean((1, 2)) / values.std((1, 2)) * np.sqrt(effective)


def test_draws_have_the_posterior_mean_and_covariance(found):
    _, _, draws = found
    assert np.abs(errors(draws.z)).max() < 4
    assert draws.effective_samples.min() > 1000  # the test sees errors of 3 % of a deviation
    assert draws.r_hat.max() < 1.01


def test_the_acceptance_is_the_one_asked_for(found):
    name, _, draws = found
    np.testing.assert_allclose(draws.acceptance, {"hmc": 0.8, "mala": 0.574}[name], atol=0.15)


def test_images_and_their_spread_are_those_of_all_draws(found):
    _, _, draws = found
    x = jax.vmap(jax.vmap(linear))(draws.z)
    np.testing.assert_allclose(draws.x, x[:, :, -1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(draws.mean, x.mean((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(draws.std, x.std((1, 2)), rtol=1e-3)
    covariance = posterior(Y)[1]
    spread = np.sqrt(np.diag(W @ covariance @ W.T)).reshape(MASK.shape)
    np.testing.assert_allclose(draws.std, np.stack([spread] * 2), rtol=0.1)
    assert (draws.misfit > 0.3).all()
    assert (draws.misfit < 3).all()


def test_an_example_depends_on_its_own_key_and_observation_alone(found):
    _, solve, draws = found
    other = solve(KEYS[::-1], Y[::-1] * jnp.array([2.0, 1.0]).reshape(2, 1, 1, 1))
    np.testing.assert_array_equal(other.z[1], draws.z[0])
    assert np.abs(other.z[0] - draws.z[1]).max() > 0.1
    assert np.abs(draws.z[0, 0, 0] - draws.z[0, 1, 0]).max() > 0.01  # each chain has its noise


def test_a_wrong_acceptance_is_found(monkeypatch):
    """Acceptance by the square root of the ratio: the same test sees it at once."""
    right = hamiltonian.acceptance_probability
    monkeypatch.setattr(hamiltonian, "acceptance_probability", lambda change: right(change / 2))
    found = solver("mala")(KEYS, Y)
    assert np.abs(errors(found.z)).max() > 10


def test_chains_kept_apart_are_noticed_and_masses_of_two_modes_are_right():
    """At little noise no chain crosses from one root to the other; at much noise all do."""
    noise = jnp.array([0.1, 1.0])
    y, start = jnp.full((2, 1, 1, 1), 2.0), jnp.tile(jnp.array([-1.6, 1.3]), (2, 8))[..., None]
    settings = {"latent": (1,), "chains": 16, "draws": 500, "warmup": 100, "leapfrogs": 4}

    @jax.jit
    def solve(y, noise, start):
        return hmc(two_roots, KEY, y, PIXEL, noise=noise, start=start, **settings)

    found = solve(y, noise, start)
    assert found.r_hat[0] > 1.1
    assert found.effective_samples[0] < 100
    assert found.r_hat[1] < 1.05
    above = np.asarray(found.z[..., 0] > 0, np.float32)
    error = above[1].std() / np.sqrt(EFFECTIVE(above[1:])[0])
    assert error < 0.02
    assert abs(above[1].mean() - mass_above(1.0)) < 4 * error
    # Kept apart, each mode has the share of the chains that started in it, not its mass.
    assert above[0].mean() == 0.5
    assert mass_above(0.1) > 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 3}, "at least 1 chain, 4 draws"),
        ({"thin": 0}, "1 from draw to draw"),
        ({"leapfrogs": 0}, "at least 1 leapfrog step"),
        ({"target_acceptance": 1.0}, r"acceptance in 0\.\.1"),
        ({"noise": -1.0}, "noise must be positive"),
        ({"start": jnp.zeros((2, 4, LATENT))}, r"start must have shape \(2, 16, 3\)"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        hmc(linear, KEY, Y, MASK, **{**SETTINGS, **change})


def test_lengths_are_no_traced_values():
    with pytest.raises(TypeError, match="draws must be a Python number"):
        jax.jit(lambda n: hmc(linear, KEY, Y, MASK, **SETTINGS, draws=n))(5)


@pytest.mark.slow
def test_memory_does_not_grow_with_transitions():
    def bytes_of(thin, warmup):
        own = {"draws": 8, "thin": thin, "warmup": warmup}
        solve = jax.jit(lambda key, y: hmc(linear, key, y, MASK, **SETTINGS, **own))
        return solve.lower(KEYS, Y).compile().memory_analysis().temp_size_in_bytes

    # The warm-up's schedule has three numbers per transition.
    assert bytes_of(64, 400) - bytes_of(1, 40) <= 16 * 360
