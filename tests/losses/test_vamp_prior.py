"""The mixture of posteriors as a prior: densities, its KL in closed form, draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.losses import likelihoods, vae

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MEAN, LOG_VAR = RNG.normal(size=(2, 3, 2)).astype(np.float32)


def encode(x):
    return x, 0.2 * x - 0.5


def nll(mean, x):
    return likelihoods.gaussian_nll(mean, x)


def test_log_density_is_that_of_the_mixture_also_far_away():
    z = np.concatenate([RNG.normal(size=(5, 2)), [[60.0, -80.0]]]).astype(np.float32)
    parts = [
        stats.multivariate_normal(m, np.diag(np.exp(v, dtype=np.float64))).logpdf(z)
        for m, v in zip(MEAN, LOG_VAR, strict=True)
    ]
    expected = np.logaddexp.reduce(parts) - np.log(3)
    np.testing.assert_allclose(vae.mixture_log_density(z, MEAN, LOG_VAR), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"give z \[B, d\]"):
        vae.mixture_log_density(z[:, :1], MEAN, LOG_VAR)


def test_with_one_input_the_kl_is_that_of_two_gaussians():
    x, inputs = jnp.array([[0.7, -0.4]]), jnp.array([[-0.3, 0.5]])
    exact = vae.gaussian_kl(*encode(x), encode(inputs))
    many = jnp.broadcast_to(x, (100_000, 2))
    found = vae.vamp_elbo(encode, lambda z: z, inputs, many, KEY, nll=nll)
    error = found.kl.std() / len(many) ** 0.5
    assert abs(found.kl.mean() - exact[0]) < 4 * error
    assert error < 0.01
    z = vae.reparameterize(*encode(many), KEY)
    np.testing.assert_array_equal(found.nll, nll(z, many))
    # Where the input is the image itself there is nothing to pay, for any z.
    same = vae.vamp_elbo(encode, lambda z: z, x, many[:9], KEY, nll=nll)
    np.testing.assert_allclose(same.kl, 0, atol=1e-5)


def test_inputs_learn():
    x = jnp.array([[1.0, 1.0], [-1.0, 2.0]])

    def loss(inputs):
        return vae.vamp_elbo(encode, lambda z: z, inputs, x, KEY, nll=nll).loss().mean()

    start = jnp.array([[0.5, 0.5], [0.0, 1.0]])
    slope = jax.jit(jax.grad(loss))(start)
    assert loss(start - 0.1 * slope) < loss(start)
    assert jnp.abs(slope).min() > 0


def test_draws_have_the_moments_of_the_mixture():
    z = np.asarray(vae.draw_mixture(MEAN, LOG_VAR, KEY, 200_000), np.float64)
    variance = np.exp(LOG_VAR).mean(0) + MEAN.var(0)
    np.testing.assert_allclose(z.mean(0), MEAN.mean(0), atol=0.02)
    np.testing.assert_allclose(z.var(0), variance, rtol=0.02)
    keys = jax.random.split(KEY, 4)
    one = vae.draw_mixture(MEAN, LOG_VAR, keys[2:3], 1)
    np.testing.assert_allclose(vae.draw_mixture(MEAN, LOG_VAR, keys, 4)[2], one[0], rtol=1e-6)
