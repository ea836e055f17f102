"""The denoising loss: its formula, the known conditional variances, and its equivalent forms."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules, predictions, schedules
from genjax.losses import diffusion, times, weightings

EVERY = {
    "noise": predictions.noise,
    "data": predictions.data,
    "velocity": predictions.velocity,
    "score": predictions.score,
    "flow": predictions.flow,
    "edm": predictions.edm,
}
SCHEDULES = {
    "VP": schedules.VP(),
    "sub-VP": schedules.SubVP(),
    "EDM": schedules.EDM(),
    "rectified flow": schedules.RectifiedFlow(),
    "discrete": discrete_schedules.DiscreteLinear(),
}


@dataclass
class Recorded:
    """A prediction that records its inputs, so that NumPy can recompute the noise."""

    of_what: Any

    def of(self, x, eps, alpha, sigma):
        self.seen = [np.float64(v) for v in (x, eps, alpha, sigma)]
        return self.of_what.of(x, eps, alpha, sigma)


def network(z, t):
    """An arbitrary smooth function of both."""
    return jnp.tanh(z) * jnp.cos(3 * t)[:, None, None]


# a and b of the target a·x + b·ε, from the papers.
COEFFICIENTS = {
    "noise": lambda a, s: (0 * a, 1 + 0 * a),
    "data": lambda a, s: (1 + 0 * a, 0 * a),
    "velocity": lambda a, s: (-s, a),
    "score": lambda a, s: (0 * a, -1 / s),
    "flow": lambda a, s: (-1 + 0 * a, 1 + 0 * a),
    "edm": lambda a, s: (
        (1 - 0.25 * a * a / (s**2 + 0.25 * a**2)) / (s * 0.5 / np.sqrt(s**2 + 0.25 * a**2)),
        -0.25 * a * s / (s**2 + 0.25 * a**2) / (s * 0.5 / np.sqrt(s**2 + 0.25 * a**2)),
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", EVERY)
def test_value_is_the_formula_of_the_paper_in_float64(schedule, target):
    x = jax.random.normal(jax.random.key(1), (5, 3, 2))
    t = jnp.array([1e-3, 0.2, 0.5, 0.9, 0.999])
    recorded, given = Recorded(EVERY[target]), []

    def predict(z, t):
        given.append(np.float64(z))
        return network(z, t)

    loss = diffusion.denoising(
        predict, x, jax.random.key(0), schedule=SCHEDULES[schedule], target=recorded, times=t,
        weight=weightings.min_snr(),
    )  # fmt: skip
    clean, eps, alpha, sigma = recorded.seen
    a, s = alpha[:, None, None], sigma[:, None, None]
    np.testing.assert_allclose(given[0], a * clean + s * eps, rtol=1e-6, atol=1e-6)
    on_x, on_eps = COEFFICIENTS[target](a, s)
    prediction = np.tanh(given[0]) * np.cos(3 * np.float64(t))[:, None, None]
    squared = ((on_x * clean + on_eps * eps - prediction) ** 2).sum((1, 2))
    snr = (alpha / sigma) ** 2
    np.testing.assert_allclose(loss, np.minimum(snr, 5) / snr * squared, rtol=1e-5)


@pytest.mark.heavy
def test_noise_is_standard_normal_and_independent_of_time_and_data():
    recorded = Recorded(predictions.noise)
    x = jnp.zeros((4096, 2))
    drawn = []
    diffusion.denoising(
        lambda z, t: drawn.append(t) or z, x, jax.random.key(3),
        schedule=schedules.VP(), target=recorded,
    )  # fmt: skip
    eps, t = recorded.seen[1], np.float64(drawn[0])
    # Five standard errors of a mean, a variance and a correlation of 4,096 draws.
    bound = 5 / np.sqrt(4096)
    assert np.abs(eps.mean(0)).max() < bound
    assert np.abs(eps.var(0) - 1).max() < bound * np.sqrt(2)
    assert np.abs(np.corrcoef(np.column_stack([eps, t]).T) - np.eye(3)).max() < bound
    assert abs(t.mean() - 0.5) < bound / np.sqrt(12)
    assert t.min() > 0
    assert t.max() < 1


MEAN, STD = 0.7, 0.5


def gaussian_denoiser(schedule, target):
    """E[target | z] for x ~ N(MEAN, STD²), elementwise."""

    def predict(z, t):
        a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        precision = 1 / STD**2 + (a / s) ** 2
        x = (MEAN / STD**2 + a / s**2 * z) / precision
        return target.of(x, (z - a * x) / s, schedule.alpha(t), schedule.sigma(t))

    return predict


@pytest.mark.heavy
@pytest.mark.parametrize("target", EVERY)
def test_ideal_denoiser_of_gaussian_data_has_the_conditional_variance(target):
    schedule, n = schedules.VP(), 20_000
    t = jnp.repeat(jnp.array([0.05, 0.3, 0.8]), n)
    x = MEAN + STD * jax.random.normal(jax.random.key(0), (3 * n, 2))
    loss = diffusion.denoising(
        gaussian_denoiser(schedule, EVERY[target]), x, jax.random.key(1),
        schedule=schedule, target=EVERY[target], times=t,
    )  # fmt: skip
    alpha, sigma = (np.float64(v(t[::n])) for v in (schedule.alpha, schedule.sigma))
    on_x, on_eps = COEFFICIENTS[target](alpha, sigma)
    # Given z, ε = (z − αx)/σ: the target varies with x alone.
    variance = (on_x - on_eps * alpha / sigma) ** 2 / (1 / STD**2 + (alpha / sigma) ** 2)
    # A mean of 2n squares of normals: five standard errors.
    np.testing.assert_allclose(
        np.asarray(loss).reshape(3, n).mean(1), 2 * variance, rtol=5 / np.sqrt(n)
    )


@pytest.mark.heavy
def test_ideal_denoiser_of_a_mixture_has_the_conditional_variance_and_is_a_minimum():
    weights, means, std = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), 0.2
    schedule, n = schedules.RectifiedFlow(), 40_000
    alpha, sigma = 0.6, 0.4
    # E[Var(x|z)] by quadrature of z in float64.
    z = np.linspace(-6, 6, 20_001)
    total = alpha**2 * std**2 + sigma**2
    joint = weights * np.exp(-((z[:, None] - alpha * means) ** 2) / (2 * total))
    joint /= np.sqrt(2 * np.pi * total)
    density = joint.sum(1)
    each = means + alpha * std**2 / total * (z[:, None] - alpha * means)
    mean = (joint * each).sum(1) / density
    second = (joint * (each**2 + std**2 * sigma**2 / total)).sum(1)
    exact = (second - density * mean**2).sum() * (z[1] - z[0])

    def loss(shift):
        def predict(z, t):
            return jnp.interp(z, grid, values) + shift

        grid, values = jnp.linspace(-6, 6, 20_001), jnp.asarray(mean, jnp.float32)
        return diffusion.denoising(
            predict, x, jax.random.key(2), schedule=schedule, target=predictions.data,
            times=jnp.full(n, 0.4),
        )  # fmt: skip

    component = jax.random.bernoulli(jax.random.key(0), 0.7, (n, 1)).astype(int)
    x = jnp.asarray(means, jnp.float32)[component]
    x = x + std * jax.random.normal(jax.random.key(1), (n, 1))
    sampled = np.asarray(loss(0.0))
    error = 5 * sampled.std() / np.sqrt(n)
    assert abs(sampled.mean() - exact) < error
    # A wrong denoiser has its squared distance as additional loss.
    assert abs(np.asarray(loss(0.3)).mean() - exact - 0.09) < 2 * error


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("source", "target"), list(itertools.combinations(EVERY, 2)))
def test_the_loss_of_each_prediction_is_a_reweighting_of_every_other(schedule, source, target):
    process, given, wanted = SCHEDULES[schedule], EVERY[source], EVERY[target]
    x = jax.random.normal(jax.random.key(1), (4, 3, 2))
    t = jnp.array([0.05, 0.3, 0.7, 0.95])

    def converted(z, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        return predictions.convert(
            network(z, t), z, alpha, sigma, source=given, target=wanted
        )  # fmt: skip

    weight = weightings.p2()
    there = weightings.convert(weight, source=given, target=wanted, schedule=process)
    one, other = (
        diffusion.denoising(
            predict, x, jax.random.key(0), schedule=process, target=prediction, times=t, weight=w
        )
        for predict, prediction, w in ((network, given, weight), (converted, wanted, there))
    )
    # z is rounded once, and up to σ/α or α/σ of about 100 amplify it.
    np.testing.assert_allclose(other, one, rtol=2e-3)


def test_flow_matching_is_velocity_prediction_reweighted():
    schedule = schedules.RectifiedFlow()
    x = jax.random.normal(jax.random.key(1), (4, 3, 2))
    t = jnp.array([0.1, 0.4, 0.6, 0.9])
    key = jax.random.key(0)
    flow = diffusion.denoising(network, x, key, schedule=schedule, target=predictions.flow, times=t)

    def velocity(z, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return predictions.convert(
            network(z, t), z, alpha, sigma, source=predictions.flow, target=predictions.velocity
        )

    v = diffusion.denoising(
        velocity, x, key, schedule=schedule, target=predictions.velocity, times=t
    )
    np.testing.assert_allclose(flow, v / (t**2 + (1 - t) ** 2) ** 2, rtol=1e-4)


@pytest.mark.heavy
def test_edm_loss_is_that_of_karras_et_al_on_the_denoiser():
    schedule, s = schedules.EDM(), 0.5
    x = s * jax.random.normal(jax.random.key(1), (6, 3, 2))
    key = jax.random.key(0)
    t = times.LogNormal(schedule)(jax.random.key(5), 6)
    on_f = diffusion.denoising(network, x, key, schedule=schedule, target=predictions.edm, times=t)

    def denoise(z, t):
        sigma = schedule.sigma(t)[:, None, None]
        skip, out = s**2 / (sigma**2 + s**2), sigma * s / jnp.sqrt(sigma**2 + s**2)
        return skip * z + out * network(z, t)

    sigma = schedule.sigma(t)
    on_x = diffusion.denoising(denoise, x, key, schedule=schedule, target=predictions.data, times=t)
    np.testing.assert_allclose(on_f, (sigma**2 + s**2) / (sigma * s) ** 2 * on_x, rtol=1e-3)


@pytest.mark.heavy
def test_a_learned_uncertainty_comes_to_the_logarithm_of_the_loss_per_element():
    loss, u = jnp.array([4.0, 12.0]), jnp.array([0.5, -1.0])
    found = diffusion.uncertainty_weighted(loss, u, 6)
    np.testing.assert_allclose(found, [4 / np.exp(0.5) + 3, 12 * np.e - 6], rtol=1e-6)
    best = jnp.log(loss / 6)
    slope = jax.grad(lambda u: diffusion.uncertainty_weighted(loss, u, 6).sum())
    np.testing.assert_allclose(slope(best), 0, atol=1e-6)
    assert (slope(best + 0.1) > 0).all()
    # There a loss of any size has the same gradient in proportion to itself.
    weights = jax.grad(lambda loss: diffusion.uncertainty_weighted(loss, best, 6).sum())(loss)
    np.testing.assert_allclose(weights * loss, 6, rtol=1e-6)
    half = diffusion.uncertainty_weighted(loss.astype(jnp.bfloat16), u.astype(jnp.bfloat16), 6)
    assert half.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"one uncertainty per example .* \(2,\), u \(1,\)"):
        diffusion.uncertainty_weighted(loss, u[:1], 6)
