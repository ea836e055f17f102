"""Flows of coupled pairs, whose noise at σ = 0 is that of the prediction, in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.diffusion import likelihood, predictions, samplers, schedules, steps

pytestmark = pytest.mark.heavy

RF = schedules.RectifiedFlow()
X = jnp.array([[2.7], [1.1]])
TARGETS = {
    "noise": predictions.noise,
    "velocity": predictions.velocity,
    "flow": predictions.flow,
    "edm": predictions.edm,
}


def network(target):
    """x ~ N(2, .25) and ε = (x − 2)/.5, the pairs of optimal transport: all lines are straight."""

    def predict(z, t):
        alpha, sigma = RF.alpha(t)[:, None], RF.sigma(t)[:, None]
        eps = (z - 2 * alpha) / (0.5 * alpha + sigma)
        return target.of(2 + 0.5 * eps, eps, RF.alpha(t), RF.sigma(t))

    return predict


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("sampler", [samplers.ddim, samplers.euler, samplers.heun])
def test_one_step_encodes_coupled_data_exactly(name, sampler):
    arguments = {"schedule": RF, "target": TARGETS[name], "steps": steps.linear(1)}
    found = samplers.encode(network(TARGETS[name]), X, sampler=sampler, **arguments)
    # A handful of roundings of numbers below 4.
    np.testing.assert_allclose(found, (X - 2) / 0.5, atol=4e-6)


# Noise determines no data at t = 1, where this schedule has no signal.
@pytest.mark.parametrize("name", ["velocity", "flow", "edm"])
def test_the_likelihood_of_coupled_data_is_that_of_the_gaussian(name):
    # The first step of Runge-Kutta's method with no noise at t = 0 would be off by 0.03 nats.
    arguments = {"schedule": RF, "target": TARGETS[name], "steps": steps.linear(10)}
    found = likelihood.log_likelihood(network(TARGETS[name]), X, **arguments)
    expected = stats.norm(2, 0.5).logpdf(np.asarray(X))[:, 0]
    # Fourth order in steps of θ of 0.16 at most: 0.1⁴, and the constant is below 1.
    np.testing.assert_allclose(found.log_prob, expected, atol=1e-4)
    np.testing.assert_allclose(found.latent, (X - 2) / 0.5, atol=1e-4)


@pytest.mark.parametrize("target", [predictions.data, predictions.score])
def test_data_and_score_determine_no_noise_there(target):
    arguments = {"schedule": RF, "target": target, "steps": jnp.array([0.5, 0.0])}
    found = samplers.encode(lambda z, t: z + 1, X, **arguments)
    np.testing.assert_allclose(found, 0.5 * X, rtol=1e-6)  # α x, and no noise


def test_a_prediction_that_is_not_finite_is_taken_to_determine_none():
    arguments = {"schedule": RF, "target": predictions.noise, "steps": jnp.array([0.5, 0.0])}
    found = samplers.encode(lambda z, t: z / t[:, None], X, **arguments)
    np.testing.assert_allclose(found, 0.5 * X, rtol=1e-6)


def test_encoding_runs_up_only_by_a_deterministic_one_step_sampler():
    arguments = {"schedule": RF, "target": predictions.flow}
    with pytest.raises(ValueError, match="decrease"):
        samplers.encode(
            network(predictions.flow), X, sampler=samplers.ancestral, steps=steps.linear(3),
            **arguments,
        )  # fmt: skip
    with pytest.raises(ValueError, match="decrease"):
        samplers.encode(network(predictions.flow), X, steps=steps.linear(3)[::-1], **arguments)
