"""Lookup-free quantisation against sums over all codes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import entr, softmax

from genjax.losses.lookup_free import lookup_free_codes, lookup_free_quantize

pytestmark = pytest.mark.heavy

BITS = 4
Z = np.random.default_rng(0).normal(size=(3, 2, 5, BITS)).astype(np.float32)
CODES = np.array(list(itertools.product([-1.0, 1.0], repeat=BITS)))[:, ::-1]  # units first
TEMPERATURE = 3.0


def test_codes_and_numbers_are_signs_and_bits():
    found = lookup_free_quantize(Z)
    np.testing.assert_array_equal(found.codes, np.where(Z > 0, 1, -1))
    distances = ((Z[..., None, :] - CODES) ** 2).sum(-1)
    np.testing.assert_array_equal(found.indices, distances.argmin(-1))
    np.testing.assert_array_equal(lookup_free_codes(found.indices, BITS), found.codes)
    np.testing.assert_array_equal(lookup_free_codes(jnp.arange(16), BITS), CODES)
    expected = ((Z - np.where(Z > 0, 1, -1)) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(found.commitment, expected, rtol=1e-5)
    most = lookup_free_quantize(jnp.ones((1, 31)))
    assert most.indices[0] == 2**31 - 1
    np.testing.assert_array_equal(lookup_free_codes(most.indices, 31), np.ones((1, 31)))


def test_the_decoders_gradient_passes_straight_through():
    weight = jnp.asarray(np.random.default_rng(1).normal(size=Z.shape))
    slope = jax.grad(lambda z: (weight * lookup_free_quantize(z).codes).sum())(Z)
    np.testing.assert_allclose(slope, weight, rtol=1e-6)


def test_the_entropy_given_z_is_that_over_all_codes():
    found = lookup_free_quantize(Z, temperature=TEMPERATURE)
    p = softmax(-((Z[..., None, :] - CODES) ** 2).sum(-1) / TEMPERATURE, axis=-1)
    np.testing.assert_allclose(found.entropy, entr(p).sum(-1).mean((1, 2)), rtol=1e-4)
    # That of the bits is above that of the codes, and equal where bits are independent.
    average = p.reshape(-1, 16).mean(0)
    assert found.code_entropy > entr(average).sum()
    grid = jnp.asarray(CODES, jnp.float32)
    every = lookup_free_quantize(grid, temperature=TEMPERATURE)
    assert every.code_entropy == pytest.approx(BITS * np.log(2), rel=1e-6)
    far = lookup_free_quantize(jnp.full((2, BITS), 1e4))
    assert far.entropy.max() < 1e-6
    assert far.code_entropy < 1e-4
    slope = jax.grad(lambda z: lookup_free_quantize(z).loss().sum())(jnp.full((2, BITS), 1e4))
    assert jnp.isfinite(slope).all()


def test_the_loss_is_the_weighted_sum_of_its_parts():
    found = lookup_free_quantize(Z)._replace(commitment=jnp.array([2.0, 3.0, 5.0]))
    found = found._replace(entropy=jnp.array([0.5, 1.0, 0.25]), code_entropy=jnp.float32(1.5))
    for beta, entropy, diversity in ((0.25, 0.1, 1.0), (0.5, 0.2, 3.0)):
        commitment, coin = np.array([2.0, 3.0, 5.0]), np.array([0.5, 1.0, 0.25])
        expected = beta * commitment + entropy * (coin - diversity * 1.5)
        np.testing.assert_allclose(found.loss(beta, entropy, diversity), expected, rtol=1e-6)


def test_the_loss_pulls_codes_apart():
    def code_entropy_after(diversity):
        def loss(z):
            return lookup_free_quantize(z).loss(0.0, 1.0, diversity).mean()

        z = jnp.abs(Z.reshape(-1, BITS)) * 0.1 + 0.05  # every bit is 1
        slope = jax.jit(jax.grad(loss))
        for _ in range(50):
            z = z - 2.0 * slope(z)
        return lookup_free_quantize(z).code_entropy

    assert code_entropy_after(2.0) > 0.9 * BITS * np.log(2)
    assert code_entropy_after(0.0) < 0.3


def test_what_is_no_code_is_refused():
    with pytest.raises(ValueError, match="d up to 31"):
        lookup_free_quantize(jnp.ones((2, 32)))
    with pytest.raises(ValueError, match="must be floats"):
        lookup_free_quantize(jnp.ones((2, 3), jnp.int32))
