"""Solvers against the exact posteriors of Gaussian and mixture data, with the ideal denoiser.

A solver that is affine in y and in its random numbers has moments in closed form (`exact.moments`),
so that its bias on Gaussian data is a number without Monte-Carlo error, over all observations.
These are the numbers of the docstrings: 16 correlated pixels, 50 steps, RePaint with 25 and 5
resamplings of 5 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit import ddnm, dps, pigdm, repaint, twisted_smc
from tests.edit import exact

STEPS = 50
# Draws of a run, and that of the start.
DRAWS = {
    ddnm.ddnm: 2 * STEPS + 2,
    pigdm.pigdm: STEPS + 1,
    # 25 steps, and 4 times 5 more for each of 4 jumps.
    repaint.repaint: 2 * (25 + 4 * 5 * 4) + 2,
}
SETTINGS = {repaint.repaint: {"n": 25, "jump": 5, "resamplings": 5}}


@pytest.fixture(scope="module")
def programs():
    """(solver, name) -> one program for every observation and noise."""

    @functools.cache
    def program(solver, data_name, name, n=STEPS):
        data = getattr(exact, data_name)
        settings = {"n": n, **SETTINGS.get(solver, {})}
        run = functools.partial(exact.solve, solver, data, name, None, **settings)
        return jax.jit(lambda y, noise: run(y, noise=noise))

    return program


def affine(monkeypatch, programs, solver, data_name, name, noise, n=STEPS):
    """The exact moments of a solver, and its bias."""
    data = getattr(exact, data_name)
    run = programs(solver, data_name, name, n)
    draws = DRAWS[solver] if n == STEPS else n + 1
    moments = exact.moments(monkeypatch, data, name, draws, lambda y: run(y, noise))
    return moments, *exact.bias(moments, data, name, noise)


@pytest.mark.parametrize(
    ("solver", "name", "noise", "mean", "variance"),
    [
        (ddnm.ddnm, "mask", 0.0, 0.208, 1.07),
        (ddnm.ddnm, "mask", 0.3, 0.248, 0.81),
        (ddnm.ddnm, "blur", 0.05, 0.078, 0.40),
        (ddnm.ddnm, "blur", 0.3, 0.642, 0.30),
        (repaint.repaint, "mask", 0.0, 0.098, 0.80),
        (repaint.repaint, "mask", 0.3, 0.065, 0.76),
        (repaint.repaint, "downsampling", 0.05, 0.022, 0.72),
        (pigdm.pigdm, "mask", 0.0, 0.107, 0.92),
        (pigdm.pigdm, "mask", 0.3, 0.101, 0.90),
        (pigdm.pigdm, "blur", 0.05, 0.051, 0.81),
        (pigdm.pigdm, "blur", 0.3, 0.053, 0.84),
    ],
)
def test_the_bias_is_the_documented_one(monkeypatch, programs, solver, name, noise, mean, variance):
    moments, error, ratio = affine(monkeypatch, programs, solver, "SMOOTH", name, noise)
    assert error == pytest.approx(mean, abs=2e-3)
    assert ratio == pytest.approx(variance, abs=0.01)
    if noise == 0:
        # What was observed has no variance, and the rest is uncertain.
        variances = np.diag(moments[-1])
        np.testing.assert_allclose(variances[:8], 0, atol=1e-9)
        assert variances[8:].min() > 0.05


def test_repaint_can_not_replace_by_an_observation_with_noise_of_unknown_gram():
    y = exact.batch(exact.observation(exact.SMOOTH, "blur", 0.0), "blur", 2)
    key, observed = jax.random.key(0), exact.operator("blur")
    run = jax.jit(
        lambda noise: exact.solve(repaint.repaint, exact.SMOOTH, observed, key, y, noise, n=3)
    )
    assert jnp.isnan(run(0.1)).all()
    np.testing.assert_allclose(observed(run(0.0)), y, atol=1e-3)


@pytest.mark.parametrize("name", ["mask", pytest.param("downsampling", marks=pytest.mark.slow)])
def test_pseudo_inverse_guidance_is_exact_for_white_gaussian_data(monkeypatch, programs, name):
    errors = []
    for n in (25, 100):
        _, error, ratio = affine(monkeypatch, programs, pigdm.pigdm, "WHITE", name, 0.3, n)
        assert error < 1e-4
        errors.append(1 - ratio)
    # The variance is that of the ancestral sampler, too small by a term of first order.
    assert errors[1] == pytest.approx(0.05, abs=0.01)
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(("noise", "mean", "variance"), [(0.0, 0.12, 1.01), (0.3, 0.18, 0.81)])
def test_the_bias_of_dps_is_the_documented_one(noise, mean, variance):
    ys, each = exact.observations(exact.SMOOTH, "mask", noise, 200), 20
    x = jax.jit(lambda y, key, noise: exact.solve(dps.dps, exact.SMOOTH, "mask", key, y, noise))(
        exact.observed(np.repeat(ys, each, 0), "mask"), jax.random.key(0), noise
    )
    x = np.asarray(x, np.float64).reshape(len(ys), each, -1)
    posteriors = [exact.SMOOTH.posterior(exact.MATRICES["mask"], y, noise) for y in ys]
    means, (_, covariance) = np.stack([m for m, _ in posteriors]), posteriors[0]
    variances = x.var(1, ddof=1)
    # Of the error of a mean of 20 samples, their own variance is no bias.
    squares = np.mean((x.mean(1) - means) ** 2 - variances / each)
    error = np.sqrt(squares / np.mean(np.diag(exact.SMOOTH.covariance)))
    assert error == pytest.approx(mean, abs=0.03)
    assert variances.sum(1).mean() / np.trace(covariance) == pytest.approx(variance, abs=0.05)


D = exact.MODES.means[1] - exact.MODES.means[0]


def share_of_the_second_mode(mean):
    return (np.asarray(mean) - exact.MODES.means[0]) @ D / (D @ D)


@pytest.fixture(scope="module")
def smc():
    """Of a mixture: the estimates of many examples, by number of particles."""
    noise = 1.0
    y = exact.observation(exact.MODES, "mask", noise)

    @functools.cache
    def run(particles):
        found = jax.jit(
            lambda y, key: exact.solve(
                twisted_smc.twisted_smc,
                exact.MODES,
                "mask",
                key,
                y,
                noise,
                n=STEPS,
                particles=particles,
                threshold=1.0,
                data_std=0.33,
            )
        )(exact.batch(y, "mask", 2048 // particles), jax.random.key(1))
        return found, exact.MODES.posterior(exact.MATRICES["mask"], y, noise)

    return run


def test_particles_weigh_the_modes_of_a_mixture_as_the_posterior_does(smc):
    found, (mean, covariance) = smc(32)
    x = np.asarray(found.particles.reshape(*found.weights.shape, -1), np.float64)
    weights = np.asarray(found.weights)[..., None]
    means = (weights * x).sum(1)
    error = means.std(0) / np.sqrt(len(means))
    np.testing.assert_array_less(np.abs(means.mean(0) - mean), 5 * error)
    shares = np.array([share_of_the_second_mode(m) for m in means])
    right = share_of_the_second_mode(mean)
    assert 0.2 < right < 0.3
    assert abs(shares.mean() - right) < 4 * shares.std() / np.sqrt(len(shares))
    gaps = x - means.mean(0)
    total = np.einsum("bki,bkj->ij", weights * gaps, gaps) / len(x)
    # Too small by the ancestral sampler's error at 50 steps.
    assert np.trace(total) / np.trace(covariance) == pytest.approx(0.91, abs=0.04)


def test_one_particle_is_guidance_alone_and_weighs_the_modes_wrongly(smc):
    found, (mean, _) = smc(1)
    x = np.asarray(exact.flat(found.x), np.float64)
    shares = (x - exact.MODES.means[0]) @ D / (D @ D)
    assert share_of_the_second_mode(mean) - shares.mean() > 3 * shares.std() / np.sqrt(len(x))
    np.testing.assert_array_equal(found.effective, 1)
    np.testing.assert_array_equal(found.weights, 1)


def test_the_effective_number_of_particles_is_reported_and_x_is_one_of_them(smc):
    found, _ = smc(32)
    assert found.effective.shape == (STEPS, 64)
    assert found.effective.min() >= 1
    assert found.effective.max() <= 32 * (1 + 1e-6)
    assert 2 < found.effective.min(0).mean() < 31.5
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    same = jnp.all(found.x[:, None] == found.particles, axis=(2, 3, 4))
    np.testing.assert_array_equal(same.any(1), True)


def test_one_step_of_particles_from_pure_noise_ends_at_the_posteriors_mean():
    noise = 0.5
    y = exact.observation(exact.WHITE, "mask", noise)
    mean, _ = exact.WHITE.posterior(exact.MATRICES["mask"], y, noise)
    how = {"n": 1, "particles": 2, "data_std": 1.0}
    found = exact.solve(
        twisted_smc.twisted_smc, exact.WHITE, "mask", jax.random.key(0),
        exact.batch(y, "mask", 3), noise, **how,
    )  # fmt: skip
    x = exact.flat(found.x)
    np.testing.assert_allclose(x, np.broadcast_to(mean, x.shape), atol=2e-3)
    assert np.abs(mean - exact.WHITE.mean).max() > 0.3


def test_systematic_resampling_takes_each_particle_by_its_share():
    weights = jnp.array([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]])
    drawn = jax.jit(twisted_smc._drawn, static_argnums=2)
    for place in (0.01, 0.5, 0.99):
        index = drawn(jnp.log(weights), jnp.full(2, place), 4)
        np.testing.assert_array_equal(index, [[0, 0, 1, 2], [3, 3, 3, 3]])
    # Of 2 from shares of 0.3 and 0.7: place/2 < 0.3 takes one of the first.
    weights = jnp.log(jnp.array([[0.3, 0.7]] * 2))
    index = drawn(weights, jnp.array([0.5, 0.7]), 2)
    np.testing.assert_array_equal(index, [[0, 1], [1, 1]])
