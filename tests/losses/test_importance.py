"""Importance-weighted bounds on linear-Gaussian models, whose log p(x) is known exactly."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax.losses import importance, likelihoods, vae

RNG = np.random.default_rng(0)
W = np.array([[1.0, 0.2], [-0.5, 0.8], [0.3, -1.0], [0.0, 0.4]], np.float32)
SIGMA = 0.5
X = RNG.standard_normal((4, 4)).astype(np.float32)
LOG_P = stats.multivariate_normal(np.zeros(4), W @ W.T + SIGMA**2 * np.eye(4)).logpdf(X)
nll = partial(likelihoods.gaussian_nll, sigma=SIGMA)

# Orthogonal columns have a diagonal posterior, which a diagonal encoder can be.
ORTHOGONAL = np.array([[1.0, 0.0], [0.5, 0.0], [0.0, -1.5], [0.0, 0.3]], np.float32)
PRECISION = np.sum(ORTHOGONAL**2, 0) / SIGMA**2 + 1
EXACT = {"V": ORTHOGONAL.T / SIGMA**2 / PRECISION[:, None], "log_var": -np.log(PRECISION)}
ROUGH = {
    "V": np.array([[0.4, -0.1, 0.2, 0.0], [0.1, 0.3, -0.4, 0.2]], np.float32),
    "log_var": np.array([-0.7, 0.2], np.float32),
}
KEY = jax.random.key(0)


def model(q, W):
    def encode(x):
        mean = x @ q["V"].T
        return mean, jnp.broadcast_to(q["log_var"], mean.shape)

    return encode, lambda z: z @ W.T


@partial(jax.jit, static_argnames=("f", "samples"))
def run(f, q, W, key, samples, x=X):
    return f(*model(q, W), x, key, nll=nll, samples=samples)


@partial(jax.jit, static_argnames=("f", "samples"))
def slopes_of(f, q, W, key, samples):
    """Value and (encoder's, decoder's) gradient of the sum over X."""
    return jax.value_and_grad(lambda q, W: run(f, q, W, key, samples).sum(), (0, 1))(q, W)


@partial(jax.jit, static_argnames=("samples", "n"))
def draws_of_iwae(samples, n):
    keys = jax.random.split(jax.random.key(samples), n)
    return jax.vmap(lambda k: run(importance.iwae, ROUGH, W, k, samples))(keys)


@partial(jax.jit, static_argnames=("samples", "chunk"))
def likelihood(key, samples, chunk):
    f = partial(importance.log_likelihood, *model(ROUGH, W), X, key, nll=nll)
    return f(samples=samples, chunk=chunk)


def mean_and_error(samples):
    return np.mean(samples, 0), np.std(samples, 0) / math.sqrt(len(samples))


@pytest.mark.heavy
def test_the_bounds_decrease_with_k_to_minus_log_p():
    means, errors = zip(*(mean_and_error(draws_of_iwae(k, 2000)) for k in (1, 5, 50)), strict=True)
    for k in range(2):
        assert (means[k] - means[k + 1] > 3 * (errors[k] + errors[k + 1])).all()
    assert (means[-1] > -LOG_P - 4 * errors[-1]).all()
    assert np.abs(means[-1] + LOG_P).max() < 0.1 * np.abs(means[0] + LOG_P).max()


def test_iwae_with_k_1_is_the_elbo():
    mean, error = mean_and_error(draws_of_iwae(1, 2000))
    code, std = X @ ROUGH["V"].T, np.exp(ROUGH["log_var"] / 2)
    squares = np.sum((X - code @ W.T) ** 2, 1) + np.sum((W * std) ** 2)
    kl = vae.gaussian_kl(code, np.broadcast_to(ROUGH["log_var"], code.shape))
    elbo = squares / (2 * SIGMA**2) + 4 * math.log(SIGMA * math.sqrt(2 * math.pi)) + kl
    assert (np.abs(mean - elbo) < 4 * error).all()


def test_with_the_exact_posterior_every_weight_is_the_likelihood():
    covariance = ORTHOGONAL @ ORTHOGONAL.T + SIGMA**2 * np.eye(4)
    log_p = stats.multivariate_normal(np.zeros(4), covariance).logpdf(X)
    log_w = run(importance.log_weights, EXACT, ORTHOGONAL, KEY, 6)
    np.testing.assert_allclose(log_w, np.broadcast_to(log_p, (6, 4)), rtol=1e-5)
    np.testing.assert_allclose(importance.effective_sample_size(log_w), 6, rtol=1e-4)


def test_log_weights_are_the_float64_densities():
    encode, decode = model(ROUGH, W)

    @jax.jit
    def codes_and_weights(key):
        def weights(decode, nll):
            return importance.log_weights(encode, decode, X, key, nll=nll, samples=3)

        # The codes, from an "nll" that is a coordinate of the code, minus one without.
        none = weights(lambda z: z, lambda z, x: jnp.zeros(4))
        codes = [none - weights(lambda z: z, lambda z, x, i=i: z[:, i]) for i in (0, 1)]
        return jnp.stack(codes, -1), weights(decode, nll)

    z, log_w = codes_and_weights(KEY)
    log_q = stats.norm.logpdf(z, X @ ROUGH["V"].T, np.exp(ROUGH["log_var"] / 2)).sum(-1)
    log_joint = stats.norm.logpdf(z).sum(-1) + stats.norm.logpdf(X, z @ W.T, SIGMA).sum(-1)
    # The codes come out of a difference of numbers some ten times their size.
    np.testing.assert_allclose(log_w, log_joint - log_q, rtol=1e-4, atol=1e-4)


@pytest.mark.heavy
def test_the_likelihood_in_chunks_is_iwae_for_any_chunk():
    log_w = run(importance.log_weights, ROUGH, W, KEY, 6)
    full = special.logsumexp(log_w, 0) - math.log(6)
    np.testing.assert_allclose(run(importance.iwae, ROUGH, W, KEY, 6), -full, rtol=1e-5)
    effective = np.sum(np.exp(log_w), 0) ** 2 / np.sum(np.exp(2 * log_w), 0)
    for chunk in (1, 4, 50):
        estimate = likelihood(KEY, 6, chunk)
        np.testing.assert_allclose(estimate.log_likelihood, full, rtol=1e-5)
        np.testing.assert_allclose(estimate.effective_samples, effective, rtol=1e-4)


def test_many_samples_reach_the_exact_likelihood():
    estimate = likelihood(jax.random.key(1), 20_000, 1000)
    # The relative error of a mean of weights is 1/√(effective samples); four of them.
    error = np.abs(estimate.log_likelihood - LOG_P)
    assert (error < 4 / np.sqrt(estimate.effective_samples)).all()
    assert (estimate.effective_samples > 1000).all()


def test_effective_samples_count_equal_weights_and_ignore_the_rest():
    log_w = jnp.array([[1e4, 0.0, 5.0], [1e4, -1e4, 0.0], [1e4 - 1e3, -1e4, -jnp.inf]])
    w = np.exp([5.0, 0.0])
    expected = [2, 1, w.sum() ** 2 / (w**2).sum()]
    np.testing.assert_allclose(importance.effective_sample_size(log_w), expected, rtol=1e-5)


# One latent, one pixel: expectations over k = 2 samples by quadrature.

SCALAR = {"a": np.float32(0.3), "b": np.float32(-0.4), "w": np.float32(1.2)}
PIXEL = np.full((1, 1), 0.9, np.float32)


def exact_bound(p, samples):
    """−E log(1/k Σ w) over k ≤ 2 samples by Gauss-Hermite quadrature in float64."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    std = np.exp(p["b"] / 2)
    z = p["a"] * float(PIXEL[0, 0]) + std * nodes
    log_w = stats.norm.logpdf(PIXEL[0, 0], p["w"] * z, SIGMA) + stats.norm.logpdf(z)
    log_w = log_w - stats.norm.logpdf(nodes) + np.log(std)
    if samples == 1:
        return -weights @ log_w
    pairs = np.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    return -weights @ pairs @ weights


@partial(jax.jit, static_argnames=("samples", "n"))
def scalar_slopes(samples, n):
    """n gradients of dreg and as many of iwae, from the same keys."""

    def loss(p, estimator, key):
        encode = lambda x: (p["a"] * x, jnp.full_like(x, 1) * p["b"])  # noqa: E731
        decode = lambda z: p["w"] * z  # noqa: E731
        return estimator(encode, decode, PIXEL, key, nll=nll, samples=samples)[0]

    keys = jax.random.split(jax.random.key(7), n)
    return [
        jax.vmap(lambda k, f=f: jax.grad(loss)(SCALAR, f, k))(keys)
        for f in (importance.dreg, importance.iwae)
    ]


@pytest.mark.heavy
@pytest.mark.parametrize("samples", [1, 2])
def test_both_gradients_are_unbiased_for_encoder_and_decoder(samples):
    for slopes in scalar_slopes(samples, 50_000):
        for name, slope in slopes.items():
            up, down = (
                exact_bound({k: v + sign * 1e-5 * (k == name) for k, v in wide.items()}, samples)
                for sign, wide in ((s, {k: float(v) for k, v in SCALAR.items()}) for s in (1, -1))
            )
            mean, error = mean_and_error(slope)
            assert abs(mean - (up - down) / 2e-5) < 4 * error, name


@pytest.mark.heavy
def test_the_encoder_gradient_of_dreg_is_less_noisy_increasingly_with_k():
    ratios = []
    for samples, n in ((2, 50_000), (32, 2000)):
        ours, plain = (np.var(slopes["a"]) for slopes in scalar_slopes(samples, n))
        ratios.append(ours / plain)
    assert ratios[1] < ratios[0] < 1


@pytest.mark.heavy
def test_dreg_has_iwaes_value_and_decoder_gradient_and_an_encoder_gradient_of_its_own():
    ours, plain = (slopes_of(f, ROUGH, W, KEY, 6) for f in (importance.dreg, importance.iwae))
    np.testing.assert_allclose(ours[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1][1], plain[1][1], rtol=1e-4, atol=1e-4)
    assert np.abs(ours[1][0]["V"] - plain[1][0]["V"]).max() > 0.1


def test_at_the_exact_posterior_the_encoder_gradient_of_dreg_is_exactly_zero():
    ours, plain = (
        slopes_of(f, EXACT, ORTHOGONAL, KEY, 6)[1][0] for f in (importance.dreg, importance.iwae)
    )
    for name in EXACT:
        np.testing.assert_allclose(ours[name], 0, atol=1e-4)
        assert np.abs(plain[name]).max() > 0.01


@pytest.mark.heavy
def test_the_second_decoder_evaluation_of_dreg_is_merged_by_xla():
    big, x = jnp.ones((256, 64)), jnp.ones((32, 256))
    q = {"V": jnp.ones((64, 256)), "log_var": jnp.zeros(64)}

    def flops(f):
        loss = jax.jit(jax.grad(lambda W: run(f, q, W, KEY, 4, x).sum()))
        return loss.lower(big).compile().cost_analysis()["flops"]

    # A decoder run twice would add half of iwae's forward and backward product.
    assert flops(importance.dreg) < 1.15 * flops(importance.iwae)


@pytest.mark.parametrize("f", [importance.iwae, importance.dreg])
@pytest.mark.parametrize("size", [1e-4, 30.0, 300.0])
def test_extreme_weights_and_variances_give_finite_values_and_gradients(f, size):
    log_var = np.array([-1.0, 1.0], np.float32) * min(size, 60)
    q = {"V": ROUGH["V"] * np.float32(size), "log_var": log_var}
    value, slopes = slopes_of(f, q, W * np.float32(size), KEY, 6)
    assert np.isfinite(value)
    assert all(np.isfinite(s).all() for s in jax.tree.leaves(slopes))


@pytest.mark.heavy
@pytest.mark.parametrize("f", [importance.iwae, importance.dreg, importance.log_likelihood])
def test_per_example_keys_vmap_and_pmap_agree_with_the_batch(f):
    keys = jax.random.split(KEY, 4)
    full = run(f, ROUGH, W, keys, 3)

    def one(x, key):
        return jax.tree.map(lambda a: a[0], run(f, ROUGH, W, key[None], 3, x[None]))

    for mapped in (jax.jit(jax.vmap(one)), jax.pmap(one, devices=jax.devices()[:4])):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), mapped(X, keys), full)


def test_raw_uint32_keys_equal_typed_keys():
    raw = run(importance.log_weights, ROUGH, W, jax.random.key_data(KEY), 6)
    np.testing.assert_array_equal(raw, run(importance.log_weights, ROUGH, W, KEY, 6))


def test_bfloat16_reaches_the_decoder_and_float32_the_sums():
    seen = []
    encode, decode = model(jax.tree.map(jnp.bfloat16, ROUGH), jnp.bfloat16(W))

    @jax.jit
    def bound(x, key):
        spy = lambda z: seen.append(z.dtype) or decode(z)  # noqa: E731
        return importance.iwae(encode, spy, x, key, nll=nll, samples=6)

    rounded = bound(jnp.bfloat16(X), KEY)
    assert seen == [jnp.bfloat16]
    assert rounded.dtype == jnp.float32
    # 8 bits of mantissa in x, W and z.
    np.testing.assert_allclose(rounded, run(importance.iwae, ROUGH, W, KEY, 6), rtol=0.1)


def test_mismatched_shapes_raise_naming_both():
    bad = lambda x: (jnp.zeros((4, 2)), jnp.zeros((4, 3)))  # noqa: E731
    three = jax.random.split(KEY, 3)
    for f in (importance.iwae, importance.dreg, importance.log_likelihood):
        with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 3\)"):
            f(bad, lambda z: z @ W.T, X, KEY, nll=nll, samples=2)
        with pytest.raises(ValueError, match="3 keys for 4"):
            f(*model(ROUGH, W), X, three, nll=nll, samples=2)


@pytest.mark.heavy
def test_with_the_true_posterior_the_mean_elbo_and_iwae_over_noise_are_the_likelihood():
    # x|z ~ N(z, 1/2), z ~ N(0, 1): x ~ N(0, 3/2), z|x ~ N(2x/3, 1/3).
    x = jnp.array([[-1.5], [0.2], [2.0]])
    exact = 0.5 * (x[:, 0] ** 2 / 1.5 + jnp.log(2 * jnp.pi * 1.5))

    def nll(z, x):
        return jnp.sum((x - z) ** 2 + 0.5 * jnp.log(jnp.pi), axis=1)

    def encode(x):
        return 2 * x / 3, jnp.full_like(x, -jnp.log(3.0))

    def parts(noise, x):
        z = 2 * x / 3 + noise / 3**0.5
        kl = 0.5 * (z**2 - noise**2 + jnp.log(3.0))
        return nll(z, x), kl.sum(1)

    key = jax.random.key(0)
    found = importance.mean_elbo(encode, lambda z: z, x, key, nll=nll, samples=3)
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    for estimate in (importance.mean_elbo, importance.iwae):
        found = importance.over_noise(estimate, parts, x, key, size=1, samples=3)
        np.testing.assert_allclose(found, exact, rtol=1e-5)
