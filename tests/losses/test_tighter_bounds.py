"""MIWAE, PIWAE and CIWAE on the log weights that IWAE has, and whose gradients are whose."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from genjax.losses import importance, likelihoods
from genjax.losses.importance import ciwae, miwae, piwae

pytestmark = pytest.mark.heavy

B, SAMPLES, GROUPS = 4, 3, 5
KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(B, 4)).astype(np.float32)
Q = {"V": np.linspace(-0.5, 0.6, 8, dtype=np.float32).reshape(2, 4), "log_var": np.float32(-0.4)}
W = np.linspace(-1, 1.5, 8, dtype=np.float32).reshape(4, 2)
nll = partial(likelihoods.gaussian_nll, sigma=0.7)


@partial(jax.jit, static_argnames=("bound", "samples", "groups"))
def of(bound, q=Q, w=W, **options):
    def encode(x):
        mean = x @ q["V"].T
        return mean, jnp.full_like(mean, 1.0) * q["log_var"]

    return bound(encode, lambda z: jnp.tanh(z) @ w.T, X, KEY, nll=nll, **options)


def log_weights(count):
    return np.asarray(of(importance.log_weights, samples=count), np.float64)


def slopes(bound, **options):
    """By the encoder's and by the decoder's parameters."""
    return jax.jit(jax.grad(lambda q, w: of(bound, q, w, **options).sum(), (0, 1)))(Q, W)


def test_miwae_is_the_mean_of_bounds_of_groups():
    groups = log_weights(SAMPLES * GROUPS).reshape(GROUPS, SAMPLES, B)
    expected = np.log(SAMPLES) - logsumexp(groups, axis=1).mean(0)
    found = of(miwae, samples=SAMPLES, groups=GROUPS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    one = of(miwae, samples=SAMPLES, groups=1)
    np.testing.assert_allclose(one, of(importance.iwae, samples=SAMPLES), rtol=1e-6)
    single = of(miwae, samples=1, groups=GROUPS)
    np.testing.assert_allclose(single, of(importance.mean_elbo, samples=GROUPS), rtol=1e-6)


def test_piwae_has_the_decoders_gradient_of_iwae_and_the_encoders_of_miwae():
    both = {"samples": SAMPLES, "groups": GROUPS}
    value, tight = of(piwae, **both), of(importance.iwae, samples=SAMPLES * GROUPS)
    np.testing.assert_allclose(value, tight, rtol=1e-5)
    (encoder, decoder), (mean, other) = slopes(piwae, **both), slopes(miwae, **both)
    _, right = slopes(importance.iwae, samples=SAMPLES * GROUPS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), encoder, mean)
    np.testing.assert_allclose(decoder, right, rtol=1e-4, atol=1e-5)
    assert np.abs(decoder - other).max() > 1e-2


def test_ciwae_lies_between_elbo_and_iwae():
    log_w = log_weights(SAMPLES)
    bounds = -log_w.mean(0), np.log(SAMPLES) - logsumexp(log_w, axis=0)
    for beta in (0.0, 0.3, 1.0):
        found = of(ciwae, samples=SAMPLES, beta=beta)
        np.testing.assert_allclose(found, beta * bounds[0] + (1 - beta) * bounds[1], rtol=1e-5)


@pytest.mark.parametrize("bound", [miwae, piwae])
def test_jit_vmap_and_keys_of_examples(bound):
    options = {"samples": SAMPLES, "groups": GROUPS, "nll": nll}
    network = (lambda x: (x[:, :2], x[:, 2:])), lambda z: jnp.tanh(z) @ W.T
    keys = jax.random.split(KEY, B)
    whole = jax.jit(lambda x, k: bound(*network, x, k, **options))(X, keys)
    rows = jax.vmap(lambda x, k: bound(*network, x[None], k[None], **options)[0])(X, keys)
    np.testing.assert_allclose(whole, rows, rtol=1e-5)
    with pytest.raises(TypeError, match="must be a Python number"):
        jax.jit(lambda m: bound(*network, X, KEY, **options | {"groups": m}))(2)
