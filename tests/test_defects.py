"""Defects found in other libraries' losses, with tests that this library does not have them."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from genjax.diffusion import (
    adams_bashforth,
    adaptive,
    correctors,
    few_step,
    guided_samplers,
    interpolants,
    multistep,
    predictions,
    samplers,
    schedules,
    singlestep,
)
from genjax.losses import (
    autoencoder,
    consistency,
    diffusion,
    flow,
    importance,
    likelihoods,
    meanflow,
    vae,
    vdm,
    vlb,
)

SCHEDULE = schedules.LinearLogSNR(8.0, -6.0)
DENOISED = {"schedule": SCHEDULE, "target": predictions.velocity}


# A cross entropy written by hand is NaN, in value and gradient, from a logit of 88 on.


@pytest.mark.heavy
def test_cross_entropy_of_logits_beyond_88_is_finite_with_the_right_gradient():
    # exp(89) is inf in float32: the textbook −x log σ(l) − (1−x) log(1−σ(l)) breaks there.
    logits = jnp.array([[89.0], [-89.0], [1e4], [-1e4]])
    for x, right in ((1.0, [0, 89, 0, 1e4]), (0.0, [89, 0, 1e4, 0])):
        values = likelihoods.bernoulli_nll(logits, jnp.full((4, 1), x))
        np.testing.assert_allclose(values, right, atol=1e-30)
        slope = jax.grad(lambda l, x=x: likelihoods.bernoulli_nll(l, jnp.full((4, 1), x)).sum())(
            logits
        )
        np.testing.assert_allclose(slope[:, 0], [1 - x, -x, 1 - x, -x], atol=1e-30)


# An IWAE that weighs its samples by softmax(loss): the worst sample dominates, and it is no bound.


def iwae_of(theta, x, samples, f=importance.iwae):
    """p(z) = N(0, 1), p(x|z) = N(θz, 1), encoded roughly."""

    def encode(x):
        return 0.3 * x, jnp.full_like(x, -0.5)

    key = jax.random.key(0)
    return f(encode, lambda z: theta * z, x, key, nll=likelihoods.gaussian_nll, samples=samples)


quick_iwae_of = jax.jit(iwae_of, static_argnums=(2, 3))


@pytest.mark.heavy
def test_the_iwae_gradient_weights_the_best_sample_most():
    x = jnp.linspace(-2, 2, 4)[:, None]

    def log_w(theta):
        return iwae_of(theta, x, 6, importance.log_weights)

    weights, slopes = jax.jit(lambda theta: (log_w(theta), jax.jacfwd(log_w)(theta)))(1.5)
    slope = jax.jit(jax.jacfwd(lambda theta: iwae_of(theta, x, 6)))(1.5)
    np.testing.assert_allclose(slope, -(special.softmax(weights, 0) * slopes).sum(0), rtol=1e-4)
    wrong = -(special.softmax(-weights, 0) * slopes).sum(0)
    assert (jnp.abs(slope - wrong) > 0.01).all()


@pytest.mark.heavy
def test_iwae_is_a_bound_which_more_samples_tighten():
    theta, x = 1.5, jnp.full((4000, 1), 1.2)
    exact = 0.5 * (1.2**2 / (theta**2 + 1) + math.log(2 * math.pi * (theta**2 + 1)))
    bounds = [quick_iwae_of(theta, x, samples) for samples in (1, 5, 50)]
    means = [float(bound.mean()) for bound in bounds]
    errors = [float(bound.std()) / 4000**0.5 for bound in bounds]
    assert means[0] > means[1] > means[2] > exact - 4 * errors[2]
    assert means[2] - exact < 0.2 * (means[0] - exact)


# A get_nll(n_samples=1) that takes 100 samples, its least batch.


def test_a_likelihood_of_one_sample_draws_one_sample():
    x = jnp.linspace(-2, 2, 4)[:, None]

    def likelihood(*arguments, nll, samples):
        return importance.log_likelihood(*arguments, nll=nll, samples=samples, chunk=50)

    estimate = quick_iwae_of(1.5, x, 1, likelihood)
    log_w = quick_iwae_of(1.5, x, 1, importance.log_weights)
    np.testing.assert_allclose(estimate.log_likelihood, log_w[0], rtol=1e-5)
    np.testing.assert_allclose(estimate.effective_samples, 1, rtol=1e-5)


# A reconstruction averaged over pixels against a KL summed over latents weights the two wrongly.


def two_channels(x):
    return jnp.stack([x, jnp.zeros_like(x)], -1)


PER_IMAGE = {
    "bernoulli": likelihoods.bernoulli_nll,
    "gaussian": likelihoods.gaussian_nll,
    "learned variance": lambda p, x: likelihoods.gaussian_learned_variance_nll((p, p), x),
    "optimal variance": likelihoods.gaussian_optimal_variance_nll,
    "discretized logistic": lambda p, x: likelihoods.discretized_logistic_nll((p, p), x),
    "categorical": lambda p, x: likelihoods.categorical_nll(two_channels(p), (x > 0.5).astype(int)),
    "squared error": lambda p, x: autoencoder.squared_error(lambda x: x, lambda _: p, x),
    "kl": vae.gaussian_kl,
}


@pytest.mark.parametrize("name", PER_IMAGE)
def test_losses_are_summed_over_elements_and_not_over_the_batch(name):
    loss = jax.jit(PER_IMAGE[name])
    rng = np.random.default_rng(0)
    p, x = rng.uniform(0, 1, (2, 4, 3, 3, 1)).astype(np.float32)
    one = loss(p, x)
    assert one.shape == (4,)
    # The same image twice, side by side.
    np.testing.assert_allclose(
        loss(*(np.tile(v, (1, 1, 2, 1)) for v in (p, x))), 2 * one, rtol=1e-5
    )
    # The same batch twice.
    np.testing.assert_allclose(
        loss(*(np.tile(v, (2, 1, 1, 1)) for v in (p, x)))[:4], one, rtol=1e-5
    )


# score_sde, vdm and meanflow draw noise per device: results change with the number of devices.


def network(z, *times):
    scale = sum(jnp.cos(t) for t in times)
    return jnp.tanh(z) * scale.reshape(scale.shape + (1,) * (z.ndim - 1))


def negative_elbo(x, key):
    def encode(x):
        return x[:, :2, 0], -x[:, 2:4, 0]

    def decode(z):
        return jnp.broadcast_to(z.sum(1)[:, None, None], x.shape)

    return vae.elbo(encode, decode, x, key, nll=likelihoods.gaussian_nll).loss()


def iwae(x, key):
    def encode(x):
        return x[:, 0], x[:, 1]

    def decode(z):
        return jnp.broadcast_to(z[:, None], x.shape)

    return importance.iwae(encode, decode, x, key, nll=likelihoods.gaussian_nll, samples=2)


def continuous_bound(x, key):
    return sum(vdm.diffusion_elbo(network, x, key, decoder=vdm.gaussian_decoder, **DENOISED))


RANDOM = {
    "vae": negative_elbo,
    "iwae": iwae,
    "denoising": lambda x, key: diffusion.denoising(network, x, key, **DENOISED),
    "vdm": continuous_bound,
    "flow matching": lambda x, key: flow.flow_matching(network, x, key),
    "meanflow": lambda x, key: meanflow.meanflow(
        network, x, key, times=meanflow.logit_normal_pairs(), power=0.0
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", RANDOM)
def test_noise_does_not_depend_on_the_number_of_devices(name):
    loss = RANDOM[name]
    x = jax.random.uniform(jax.random.key(1), (8, 4, 3), minval=-1.0)
    keys = jax.random.split(jax.random.key(2), 8)
    compiled = jax.jit(loss)
    alone = compiled(x, keys)
    for devices in (2, 8):
        parts = (v.reshape(devices, -1, *v.shape[1:]) for v in (x, keys))
        # Rounding alone differs, where another noise would change a loss by itself.
        np.testing.assert_allclose(jax.pmap(loss)(*parts).reshape(8), alone, rtol=1e-4)
    assert (jnp.abs(alone / compiled(x, keys[::-1]) - 1) > 1e-3).any()


# Stock scripts miss their papers' scores for a hidden default of steps, schedule or prediction.

CHOICES = {
    samplers.ancestral: ("schedule", "target", "steps"),
    samplers.ddim: ("schedule", "target", "steps"),
    samplers.euler: ("schedule", "target", "steps"),
    samplers.heun: ("schedule", "target", "steps"),
    multistep.dpm_solver_2m: ("schedule", "target", "steps"),
    multistep.dpm_solver_3m: ("schedule", "target", "steps"),
    multistep.unipc: ("schedule", "target", "steps"),
    adams_bashforth.lms: ("schedule", "target", "steps"),
    adams_bashforth.deis: ("schedule", "target", "steps"),
    singlestep.dpm_solver: ("schedule", "target", "steps"),
    singlestep.dpm_solver_2s: ("schedule", "target", "steps"),
    singlestep.dpm_solver_sde: ("schedule", "target", "steps"),
    interpolants.sde: ("schedule", "target", "steps", "diffusion"),
    guided_samplers.cfg_plus_plus: ("scale", "schedule", "target", "steps"),
    guided_samplers.adaptive_projected: ("scale", "schedule", "target", "steps"),
    adaptive.dpm_solver_adaptive: ("schedule", "target"),
    few_step.consistency: ("schedule", "steps"),
    few_step.meanflow: ("steps",),
    correctors.predictor_corrector: ("schedule", "target", "steps"),
    diffusion.denoising: ("schedule", "target"),
    consistency.training: ("schedule", "times"),
    vlb.bound: ("schedule", "target", "steps"),
    importance.iwae: ("nll", "samples"),
    vae.elbo: ("nll",),
}


@pytest.mark.parametrize("f", CHOICES, ids=lambda f: f.__name__)
def test_steps_schedule_prediction_and_likelihood_have_no_hidden_default(f):
    parameters = inspect.signature(f).parameters
    for name in CHOICES[f]:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is inspect.Parameter.empty
