"""Likelihoods and bounds against NumPyro's distributions and its Rényi bound at α = 0, IWAE."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import importance, likelihoods, vae

numpyro = pytest.importorskip("numpyro")
dist = numpyro.distributions

RNG = np.random.default_rng(0)
A = RNG.normal(scale=3, size=(4, 3, 2)).astype(np.float32)
B = RNG.normal(size=(4, 3, 2)).astype(np.float32)
BITS = RNG.integers(0, 2, (4, 3, 2)).astype(np.float32)
LABELS = RNG.integers(0, 2, (4, 3))


def nats(log_prob):
    return -log_prob.reshape(4, -1).sum(1)


@pytest.mark.heavy
def test_likelihoods_are_minus_the_log_probabilities_of_distributions():
    pairs = [
        (likelihoods.bernoulli_nll(A, BITS), dist.Bernoulli(logits=A).log_prob(BITS)),
        (likelihoods.gaussian_nll(A, B, sigma=0.7), dist.Normal(A, 0.7).log_prob(B)),
        (
            likelihoods.gaussian_learned_variance_nll((A, B), BITS),
            dist.Normal(A, jnp.exp(B / 2)).log_prob(BITS),
        ),
        (likelihoods.categorical_nll(A, LABELS), dist.Categorical(logits=A).log_prob(LABELS)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, nats(theirs), rtol=1e-5)


def test_kl_is_that_of_distributions():
    q, p = dist.Normal(A, jnp.exp(B / 2)), dist.Normal(B, jnp.exp(A / 6))
    theirs = dist.kl_divergence(q, p)
    np.testing.assert_allclose(vae.gaussian_kl(A, B, (B, A / 3)), -nats(theirs), rtol=1e-4)


@pytest.mark.heavy
def test_iwae_is_the_renyi_bound_at_alpha_0():
    samples, x = 5, jnp.array([[0.4, -1.1]])
    mean, log_var = jnp.array([[0.3, -0.2]]), jnp.array([[-0.5, 0.1]])

    def model():
        z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1).to_event(1))
        numpyro.sample("x", dist.Normal(1.5 * z, 1).to_event(1), obs=x[0])

    def guide():
        numpyro.sample("z", dist.Normal(mean[0], jnp.exp(log_var[0] / 2)).to_event(1))

    bound = numpyro.infer.RenyiELBO(alpha=0.0, num_particles=samples)
    keys = jax.random.split(jax.random.key(0), 20_000)
    theirs = jax.vmap(lambda key: bound.loss(key, {}, model, guide))(keys)
    n = len(keys)
    ours = importance.iwae(
        lambda x: (jnp.tile(mean, (n, 1)), jnp.tile(log_var, (n, 1))),
        lambda z: 1.5 * z, jnp.tile(x, (n, 1)), jax.random.key(1),
        nll=likelihoods.gaussian_nll, samples=samples,
    )  # fmt: skip
    error = math.hypot(*(float(v.std()) / n**0.5 for v in (ours, theirs)))
    # Other random numbers, so equal means up to four of their deviations.
    assert abs(float(ours.mean() - theirs.mean())) < 4 * error
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.1)
