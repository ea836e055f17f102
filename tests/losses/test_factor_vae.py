"""FactorVAE: its parts, and a critic whose best logit is the total correlation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import gan, likelihoods, vae

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def encode(x):
    return x[:, :2], 0.1 * x[:, 1:] - 1


def parts(x=X, critic=lambda z: z.sum(-1), key=KEY):
    return vae.factor_vae(
        encode, lambda z: z @ jnp.ones((2, 3)), critic, x, key, nll=likelihoods.gaussian_nll
    )


def test_the_parts_are_the_elbo_and_the_critics_logit_of_the_same_codes():
    found = parts()
    plain = vae.elbo(encode, lambda z: z @ jnp.ones((2, 3)), X, KEY, nll=likelihoods.gaussian_nll)
    np.testing.assert_array_equal(found.nll, plain.nll)
    np.testing.assert_array_equal(found.kl, plain.kl)
    np.testing.assert_array_equal(found.z, vae.reparameterize(*encode(X), KEY))
    np.testing.assert_array_equal(found.total_correlation, found.z.sum(-1))
    np.testing.assert_allclose(found.loss(7.0), plain.loss() + 7 * found.z.sum(-1), rtol=1e-5)
    with pytest.raises(ValueError, match="one logit per code"):
        parts(critic=lambda z: z)


def test_permuted_codes_keep_each_dimension_and_lose_their_dependence():
    n, rho = 20_000, 0.9
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).astype(np.float32)
    found = np.asarray(vae.permute_dimensions(z, KEY))
    np.testing.assert_array_equal(np.sort(found, 0), np.sort(z, 0))
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(found[:, 0], z[:, 0])[0, 1]) < 0.03
    # The best logit is log q(z)/Πq(z_j), whose mean is −½ log(1 − ρ²); any other costs more.
    precision = np.linalg.inv([[1, rho], [rho, 1]]) - np.eye(2)

    def logit(z, scale=1.0):
        squares = np.einsum("bi,ij,bj->b", z, precision, z)
        return jnp.asarray(-0.5 * (scale * squares + np.log(1 - rho**2)), jnp.float32)

    assert logit(z).mean() == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.02)
    cost = gan.minimax.discriminator(logit(z), logit(found)).mean()
    for scale in (0.7, 1.4):
        assert gan.minimax.discriminator(logit(z, scale), logit(found, scale)).mean() > cost
    with pytest.raises(ValueError, match=r"must be \[B, d\]"):
        vae.permute_dimensions(z[0], KEY)
