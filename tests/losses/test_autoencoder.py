"""Deterministic and regularised autoencoders: references, PCA, Jacobians, transforms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import autoencoder

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 2, 3)).astype(np.float32)
E = RNG.standard_normal((6, 2)).astype(np.float32)
W = RNG.standard_normal((2, 6)).astype(np.float32)


def encode(x):
    return x.reshape(-1, 6) @ E.astype(x.dtype)


def decode(z):
    return jnp.tanh(z @ W.astype(z.dtype)).reshape(-1, 2, 3)


def exact_jacobians(z):
    """∂ tanh(zW)/∂z in float64, [B, 6, 2]."""
    return (1 - np.tanh(np.float64(z) @ W) ** 2)[..., None] * np.float64(W).T


rae = jax.jit(
    partial(
        autoencoder.regularized_autoencoder, encode, decode, penalty=autoencoder.gradient_penalty
    )
)


def test_the_parts_are_the_float64_reference():
    parts = rae(X)
    z = np.float64(X).reshape(16, 6) @ E
    error = np.sum((np.float64(X).reshape(16, 6) - np.tanh(z @ W)) ** 2, 1)
    np.testing.assert_allclose(parts.error, error, rtol=1e-5)
    np.testing.assert_allclose(autoencoder.squared_error(encode, decode, X), error, rtol=1e-5)
    np.testing.assert_allclose(parts.code, np.sum(z**2, 1) / 2, rtol=1e-5)
    jacobians = exact_jacobians(z)
    np.testing.assert_allclose(parts.penalty, np.sum(jacobians**2, (1, 2)), rtol=1e-4)
    np.testing.assert_allclose(
        parts.loss(beta=0.1, scale=0.5), parts.error + 0.1 * parts.code + 0.5 * parts.penalty
    )


def test_the_gradient_of_the_penalty_by_decoder_parameters_matches_finite_differences():
    z = np.float64(encode(X))

    def penalty(w):
        slope = 1 - np.tanh(z @ w) ** 2
        return np.sum(slope**2 * np.sum(w**2, 0))

    ours = jax.jit(
        jax.grad(lambda w: autoencoder.gradient_penalty(lambda z: jnp.tanh(z @ w), encode(X)).sum())
    )(W)
    for at in np.ndindex(W.shape):
        up, down = np.float64(W), np.float64(W)
        up[at] += 1e-5
        down[at] -= 1e-5
        np.testing.assert_allclose(ours[at], (penalty(up) - penalty(down)) / 2e-5, rtol=1e-3)


def test_one_random_projection_estimates_the_penalty_without_bias():
    z, n = encode(X), 4000
    keys = jax.random.split(jax.random.key(0), n)
    estimates = jax.jit(jax.vmap(partial(autoencoder.gradient_penalty, decode, z)))(keys)
    error = estimates.std(0) / math.sqrt(n)
    exact = np.sum(exact_jacobians(z) ** 2, (1, 2))
    assert (np.abs(estimates.mean(0) - exact) < 4 * error).all()


def test_without_a_penalty_the_third_part_is_zero():
    parts = autoencoder.regularized_autoencoder(encode, decode, X)
    np.testing.assert_array_equal(parts.penalty, np.zeros(16))


@pytest.mark.heavy
def test_a_linear_autoencoders_optimum_is_pca():
    x = X.reshape(16, 6) - X.reshape(16, 6).mean(0)
    _, values, axes = np.linalg.svd(x)
    best = axes[:2].T

    def loss(V):
        return autoencoder.squared_error(lambda x: x @ V, lambda z: z @ V.T, x).sum()

    value, slope = jax.value_and_grad(loss)(best)
    np.testing.assert_allclose(value, np.sum(values[2:] ** 2), rtol=1e-5)
    np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_l2_sums_the_squares_of_a_tree_in_float32():
    tree = {"a": np.full((30, 100), 0.1, np.float32), "b": [np.array([3.0], np.float32)]}
    np.testing.assert_allclose(autoencoder.l2(tree), 30 + 9, rtol=2e-5)  # 3,000 roundings
    rounded = jax.tree.map(jnp.bfloat16, tree)
    assert autoencoder.l2(rounded).dtype == jnp.float32
    np.testing.assert_allclose(autoencoder.l2(rounded), 39, rtol=0.01)
    assert autoencoder.l2({}) == 0


@pytest.mark.heavy
def test_vmap_pmap_per_example_keys_and_bfloat16():
    full = rae(X)
    close = partial(np.testing.assert_allclose, rtol=1e-4)
    one = jax.jit(jax.vmap(lambda x: jax.tree.map(lambda a: a[0], rae(x[None]))))(X)
    jax.tree.map(close, one, full)
    shards = jax.pmap(rae)(X.reshape(8, 2, 2, 3))
    jax.tree.map(lambda a, b: close(a.reshape(16), b), shards, full)
    keys = jax.random.split(jax.random.key(0), 16)
    penalty = jax.jit(partial(autoencoder.gradient_penalty, decode))
    close(penalty(encode(X)[::-1], keys[::-1])[::-1], penalty(encode(X), keys))
    rounded = rae(jnp.bfloat16(X))
    assert all(part.dtype == jnp.float32 for part in rounded)
    np.testing.assert_allclose(rounded.error, full.error, rtol=0.1)
    np.testing.assert_allclose(rounded.code, full.code, rtol=0.1)


def test_mismatched_shapes_raise_naming_both():
    for f in (autoencoder.squared_error, autoencoder.regularized_autoencoder):
        with pytest.raises(ValueError, match=r"\(16, 2\).*\(16, 2, 3\)"):
            f(encode, lambda z: z, X)
    with pytest.raises(ValueError, match="3 keys for 16"):
        autoencoder.gradient_penalty(decode, encode(X), jax.random.split(jax.random.key(0), 3))
