"""The maximum mean discrepancy and InfoVAE: closed forms for Gaussians, references, transforms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import info_vae, likelihoods, vae

RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal((n, 3)).astype(np.float32) for n in (6, 5))
KERNELS = {
    "gaussian": (info_vae.gaussian_kernel(1.3), lambda d2: math.exp(-d2 / (2 * 1.3**2))),
    "inverse multiquadratic": (info_vae.inverse_multiquadratic(2.0), lambda d2: 2 / (2 + d2)),
    "default": (None, lambda d2: 6 / (6 + d2)),
}


def reference(a, b, kernel):
    """The unbiased estimate by loops over pairs, in float64."""

    def mean(s, t, same):
        pairs = [
            kernel(np.sum((u - v) ** 2))
            for i, u in enumerate(s)
            for j, v in enumerate(t)
            if not (same and i == j)
        ]
        return np.mean(pairs)

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


@pytest.mark.parametrize("name", KERNELS)
def test_mmd_and_its_gradient_are_the_float64_reference(name):
    ours, theirs = KERNELS[name]
    value, slope = jax.jit(jax.value_and_grad(partial(info_vae.mmd, kernel=ours)))(A, B)
    np.testing.assert_allclose(value, reference(np.float64(A), B, theirs), rtol=1e-4, atol=1e-6)
    for at in np.ndindex(A.shape):
        up, down = np.float64(A), np.float64(A)
        up[at] += 1e-5
        down[at] -= 1e-5
        expected = (reference(up, B, theirs) - reference(down, B, theirs)) / 2e-5
        np.testing.assert_allclose(slope[at], expected, rtol=1e-3, atol=1e-6)


def test_mmd_is_unbiased_for_two_gaussians():
    # E k between N(m, s²I) and N(0, I) with a Gaussian kernel is a Gaussian integral.
    m, s, width, d, n = 0.5, 0.8, 1.0, 2, 4000

    def expected_kernel(variance, distance2):
        scale = width**2 + variance
        return (width**2 / scale) ** (d / 2) * math.exp(-distance2 / (2 * scale))

    exact = expected_kernel(2 * s**2, 0) + expected_kernel(2, 0)
    exact -= 2 * expected_kernel(1 + s**2, d * m**2)
    a = (m + s * RNG.standard_normal((n, 5, d))).astype(np.float32)
    b = RNG.standard_normal((n, 4, d)).astype(np.float32)
    kernel = info_vae.gaussian_kernel(width)
    values = jax.jit(jax.vmap(partial(info_vae.mmd, kernel=kernel)))(a, b)
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(n)
    assert exact > 10 * values.std() / math.sqrt(n)  # so that zero would not pass


def encode(x):
    return x[:, :2], x[:, 2:]


X = RNG.standard_normal((16, 4)).astype(np.float32)
decode = partial(jnp.pad, pad_width=((0, 0), (0, 2)))
call = jax.jit(partial(info_vae.info_vae, encode, decode, nll=likelihoods.gaussian_nll))


@pytest.mark.heavy
def test_alpha_0_scale_1_is_the_elbo_and_alpha_1_has_no_kl():
    parts = call(X, jax.random.key(0))
    elbo = vae.elbo(encode, decode, X, jax.random.key(0), nll=likelihoods.gaussian_nll)
    np.testing.assert_allclose(parts.kl, elbo.kl, rtol=1e-5)
    np.testing.assert_allclose(parts.loss(alpha=0, scale=1), parts.nll + parts.kl, rtol=1e-6)
    np.testing.assert_allclose(parts.loss(alpha=1, scale=10), parts.nll + 10 * parts.mmd, rtol=1e-6)
    np.testing.assert_allclose(
        parts.loss(alpha=-1, scale=5), parts.nll + 2 * parts.kl + 3 * parts.mmd, rtol=1e-5
    )


@pytest.mark.heavy
def test_the_mmd_detects_codes_that_do_not_follow_the_prior():
    @jax.jit
    @jax.vmap
    def draws(key):
        encoders = [lambda x, m=m: (jnp.full((16, 2), m), jnp.zeros((16, 2))) for m in (0.0, 1.0)]
        f = partial(info_vae.info_vae, decode=decode, x=X, key=key, nll=likelihoods.gaussian_nll)
        return [f(e).mmd for e in encoders]

    matched, shifted = draws(jax.random.split(jax.random.key(0), 200))
    # For codes ~ N(0, I) the unbiased estimate is 0 on average.
    assert abs(matched.mean()) < 4 * matched.std() / math.sqrt(200)
    assert shifted.mean() > 10 * shifted.std() / math.sqrt(200)


@pytest.mark.heavy
def test_pmap_vmap_per_example_keys_and_bfloat16():
    keys = jax.random.split(jax.random.key(0), 16)
    shards, split = X.reshape(8, 2, 4), keys.reshape(8, 2)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, jax.pmap(call)(shards, split), jax.jit(jax.vmap(call))(shards, split))
    full = call(X, keys)
    shuffled = call(X[::-1], keys[::-1])
    close(shuffled.nll[::-1], full.nll)
    close(shuffled.mmd, full.mmd)  # each image's code and prior draw go with its key
    rounded = call(jnp.bfloat16(X), keys)
    assert all(part.dtype == jnp.float32 for part in rounded)
    np.testing.assert_allclose(rounded.loss(0.5, 2), full.loss(0.5, 2), rtol=0.05, atol=0.05)


def test_extreme_encoders_give_finite_losses_and_gradients():
    nll = lambda z, x: jnp.abs(z - x).sum(-1)  # noqa: E731

    @jax.jit
    @jax.value_and_grad
    def loss(p):
        encode = lambda x: (x[:, :2] + p, jnp.full((16, 2), p))  # noqa: E731
        parts = info_vae.info_vae(encode, lambda z: z, X[:, :2], jax.random.key(0), nll=nll)
        return parts.loss(0.5, 2).sum()

    for value in (-1e4, -90.0, 90.0, 1e4):
        assert np.isfinite(loss(value)).all()


def test_mismatched_shapes_raise_naming_both():
    for a, b in ((A, B[:, :2]), (A[:1], B), (A, B[:1])):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            info_vae.mmd(a, b)
        assert str(a.shape) in str(error.value)
        assert str(b.shape) in str(error.value)
    with pytest.raises(ValueError, match=r"\(16, 1\).*\(16, 3\)"):
        info_vae.info_vae(
            lambda x: (x[:, :1], x[:, 1:]),
            decode,
            X,
            jax.random.key(0),
            nll=likelihoods.gaussian_nll,
        )
