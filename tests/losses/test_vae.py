"""The ELBO and its parts: closed forms, probabilistic PCA, extremes, keys and transforms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genjax.losses import likelihoods, vae

RNG = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def reference_kl(mean, log_var, prior_mean=0.0, prior_log_var=0.0):
    """KL of two Gaussians in float64: log s/σ + (σ² + (μ−m)²)/2s² − ½, element by element."""
    mean, log_var, prior_mean, prior_log_var = map(
        np.float64, (mean, log_var, prior_mean, prior_log_var)
    )
    squares = np.exp(log_var) + (mean - prior_mean) ** 2
    return (prior_log_var - log_var) / 2 + squares / (2 * np.exp(prior_log_var)) - 0.5


GRID = [np.float32(a).reshape(-1, 1) for a in np.meshgrid([-1e4, -1, 0, 1e-4], [-300, -40, 0, 20])]


@pytest.mark.parametrize(
    "inputs",
    [
        [normal(16, 3), normal(16, 3)],
        [normal(16, 3) for _ in range(4)],
        GRID,
        [np.float32(1) + GRID[0], GRID[1] / 5, GRID[0], -GRID[1] / 6],
        # Near the prior, where exp(a) − 1 − a would cancel.
        [normal(16, 3, scale=1e-5), normal(16, 3, scale=1e-3)],
    ],
    ids=["random", "with a prior", "extreme", "extreme with a prior", "near the prior"],
)
def test_kl_and_its_gradient_are_the_float64_reference(inputs):
    def kl(inputs):
        values = vae.gaussian_kl(*inputs[:2], tuple(inputs[2:]) or None)
        return values.sum(), values

    slopes, values = jax.jit(jax.grad(kl, has_aux=True))(inputs)
    # 2e-11: float32's rounding of a log_var of 1e-3 against its square.
    np.testing.assert_allclose(values, reference_kl(*inputs).sum(1), rtol=3e-6, atol=2e-10)
    for i, slope in enumerate(slopes):
        step = 1e-3  # truncation 2e-7, and float64's rounding of 5e8 / 1e-3 stays under 1e-4
        up, down = (
            reference_kl(
                *[a + sign * step * (i == j) for j, a in enumerate(map(np.float64, inputs))]
            )
            for sign in (1, -1)
        )
        np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=2e-4, atol=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize("log_var", [-1e4, 90.0, 1e4])
def test_a_kl_beyond_float32_is_finite_with_a_gradient_that_points_back(log_var):
    mean = jnp.ones((1, 2))
    value, slope = jax.value_and_grad(lambda v: vae.gaussian_kl(mean, v)[0])(
        jnp.full((1, 2), log_var)
    )
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert (np.sign(slope) == np.sign(log_var)).all()


def test_a_kl_is_exact_below_the_limit_of_its_tangent():
    kl = vae.gaussian_kl(jnp.ones((1, 2)), jnp.full((1, 2), 59.0))
    np.testing.assert_allclose(kl, reference_kl(np.ones((1, 2)), 59.0).sum(1), rtol=1e-5)


@pytest.mark.heavy
def test_above_a_ratio_of_e60_the_kl_continues_as_its_tangent():
    def kl(log_var):
        return vae.gaussian_kl(jnp.ones((1, 1)), log_var.reshape(1, 1))[0]

    value, slope = jax.value_and_grad(kl)(jnp.float32(62))
    np.testing.assert_allclose(value, 0.5 * 3 * math.exp(60), rtol=1e-6)
    np.testing.assert_allclose(slope, 0.5 * math.exp(60), rtol=1e-6)
    np.testing.assert_allclose(kl(jnp.float32(59.5)), 0.5 * math.exp(59.5), rtol=1e-5)


@pytest.mark.heavy
def test_kl_matches_monte_carlo():
    (m, v, pm, pv), n = normal(4, 3, scale=0.5), 200_000
    z = m + np.exp(v / 2) * RNG.standard_normal((n, 3))
    ratios = stats.norm.logpdf(z, m, np.exp(v / 2)) - stats.norm.logpdf(z, pm, np.exp(pv / 2))
    kl = vae.gaussian_kl(m[None], v[None], (pm[None], pv[None]))[0]
    ratios = ratios.sum(1)
    assert abs(ratios.mean() - kl) < 4 * ratios.std() / math.sqrt(n)


# A linear-Gaussian VAE, in which every expectation is known.

W = np.array([[1.0, 0.2], [-0.5, 0.8], [0.3, -1.0], [0.0, 0.4]], np.float32)
V = np.array([[0.4, -0.1, 0.2, 0.0], [0.1, 0.3, -0.4, 0.2]], np.float32)
LOG_VAR = np.array([-0.7, 0.2], np.float32)
SIGMA = 0.5


def encode(x):
    mean = x @ V.T.astype(x.dtype)
    return mean, jnp.broadcast_to(LOG_VAR.astype(x.dtype), mean.shape)


def decode(z):
    return z @ W.T.astype(z.dtype)


nll = partial(likelihoods.gaussian_nll, sigma=SIGMA)
linear_elbo = jax.jit(partial(vae.elbo, encode, decode, nll=nll))
X = normal(8, 4)


def test_the_elbo_of_a_linear_vae_is_its_closed_form():
    n = 20_000
    keys = jax.random.split(jax.random.key(1), n)
    parts = jax.jit(jax.vmap(lambda k: vae.elbo(encode, decode, X[:1], k, nll=nll)))(keys)
    mean, std = V @ X[0], np.exp(LOG_VAR / 2)
    residual = np.sum((X[0] - W @ mean) ** 2) + np.sum((W * std) ** 2)
    expected = residual / (2 * SIGMA**2) + 4 * math.log(SIGMA * math.sqrt(2 * math.pi))
    assert abs(parts.nll.mean() - expected) < 4 * parts.nll.std() / math.sqrt(n)
    np.testing.assert_allclose(parts.kl[0], reference_kl(mean, LOG_VAR).sum(), rtol=1e-6)


@pytest.mark.heavy
def test_a_linear_vae_trained_on_the_elbo_reaches_probabilistic_pcas_likelihood():
    data = RNG.standard_normal((200, 2)) @ RNG.standard_normal((2, 5)) * 1.5
    data += 0.5 * RNG.standard_normal((200, 5))
    x = jnp.float32(data - data.mean(0))
    covariance = np.cov(np.float64(x).T, bias=True)
    # Tipping & Bishop: σ² is the mean discarded eigenvalue; the data are then Gaussian, W Wᵀ + σ².
    eigenvalues = np.linalg.eigvalsh(covariance)
    discarded, retained = eigenvalues[:3], eigenvalues[3:]
    log_det = np.log(retained).sum() + 3 * np.log(discarded.mean())
    pca = 0.5 * (5 * math.log(2 * math.pi) + log_det + 5)

    def loss(p, key):
        def encode(x):
            return x @ p["V"], jnp.broadcast_to(p["log_var"], (x.shape[0], 2))

        def decode(z):
            return z @ p["W"], p["log_sigma2"]

        parts = vae.elbo(encode, decode, x, key, nll=likelihoods.gaussian_learned_variance_nll)
        return parts.loss().mean()

    rate = optax.cosine_decay_schedule(0.03, 3000)
    optimizer = optax.adam(rate)

    def step(carry, key):
        p, state = carry
        slopes = jax.grad(loss)(p, key)
        updates, state = optimizer.update(slopes, state)
        return (optax.apply_updates(p, updates), state), None

    @jax.jit
    def train(p):
        carry = (p, optimizer.init(p))
        (p, _), _ = jax.lax.scan(step, carry, jax.random.split(jax.random.key(0), 3000))
        return p, jax.vmap(lambda key: loss(p, key))(
            jax.random.split(jax.random.key(1), 500)
        ).mean()

    start = {"V": normal(5, 2, scale=0.3), "W": normal(2, 5, scale=0.3)}
    start |= {"log_var": np.zeros(2, np.float32), "log_sigma2": np.float32(0)}
    trained, reached = train(start)
    # The bound cannot pass the likelihood; .02 nats are the last noise of training and evaluation.
    assert abs(reached - pca) < 0.02
    np.testing.assert_allclose(np.exp(trained["log_sigma2"]), discarded.mean(), rtol=0.03)
    assert loss(start, jax.random.key(0)) > pca + 1


@pytest.mark.heavy
def test_codes_and_their_gradients_are_those_of_the_reparameterisation():
    mean, log_var = normal(2000, 2), normal(2000, 2)
    z, slope_of = jax.vjp(lambda m, v: vae.reparameterize(m, v, jax.random.key(3)), mean, log_var)
    noise = np.ravel((z - mean) * np.exp(-log_var / 2))
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    by_mean, by_log_var = slope_of(jnp.ones_like(z))
    np.testing.assert_array_equal(by_mean, 1)
    np.testing.assert_allclose(by_log_var, (z - mean) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.heavy
def test_with_per_example_keys_noise_depends_on_an_examples_key_alone():
    keys = jax.random.split(jax.random.key(0), 8)
    full = linear_elbo(X, keys)
    alone = linear_elbo(X[5:6], keys[5:6])
    np.testing.assert_allclose(alone.nll[0], full.nll[5], rtol=1e-6)
    shuffled = linear_elbo(X[::-1], keys[::-1])
    np.testing.assert_allclose(shuffled.nll[::-1], full.nll, rtol=1e-6)
    raw = linear_elbo(X, jax.random.key_data(keys))
    np.testing.assert_array_equal(raw.nll, full.nll)
    one = linear_elbo(np.tile(X[:1], (8, 1)), jax.random.key(0)).nll
    assert len(np.unique(one)) == 8  # one key draws other noise for each image


@pytest.mark.heavy
def test_pmap_and_vmap_agree_with_the_batch():
    keys = jax.random.split(jax.random.key(0), 8)
    full = linear_elbo(X, keys)

    def one(x, key):
        return jax.tree.map(lambda a: a[0], vae.elbo(encode, decode, x[None], key[None], nll=nll))

    for mapped in (jax.vmap(one), jax.pmap(one)):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), mapped(X, keys), full)


@pytest.mark.heavy
def test_bfloat16_codes_keep_their_dtype_and_the_sums_are_float32():
    seen = []
    parts = vae.elbo(
        encode,
        lambda z: seen.append(z.dtype) or decode(z),
        jnp.bfloat16(X),
        jax.random.key(0),
        nll=nll,
    )
    assert seen == [jnp.bfloat16]
    assert parts.nll.dtype == parts.kl.dtype == jnp.float32
    exact = linear_elbo(X, jax.random.key(0))
    np.testing.assert_allclose(parts.kl, exact.kl, rtol=0.02)  # 8 bits of mantissa in mean
    np.testing.assert_allclose(parts.nll, exact.nll, rtol=0.05)


@pytest.mark.parametrize("value", [-1e4, -90.0, 90.0, 1e4])
def test_extreme_encoders_give_finite_losses_and_gradients(value):
    def loss(p):
        encode = lambda x: (x[:, :2] + p, jnp.full((8, 2), p))  # noqa: E731
        return vae.elbo(encode, decode, X, jax.random.key(0), nll=nll).loss().sum()

    assert np.isfinite(jax.jit(jax.value_and_grad(loss))(value)).all()


def test_beta_weights_the_kl_alone():
    parts = linear_elbo(X, jax.random.key(0))
    np.testing.assert_array_equal(parts.loss(), parts.nll + parts.kl)
    np.testing.assert_array_equal(parts.loss(beta=0), parts.nll)
    np.testing.assert_allclose(parts.loss(beta=4.0) - parts.loss(), 3 * parts.kl, rtol=1e-5)


def test_free_bits_of_an_image_floor_each_latent_and_stop_its_gradient():
    kl = jnp.array([[0.1, 2.0], [0.6, 0.3]])
    values, slopes = jax.vmap(jax.value_and_grad(lambda k: vae.free_bits(k[None], 0.5)[0]))(kl)
    np.testing.assert_allclose(values, [2.5, 1.1])
    np.testing.assert_array_equal(slopes, [[0, 1], [1, 0]])


@pytest.mark.heavy
def test_free_bits_of_a_batch_floor_the_mean_over_the_batch():
    kl = jnp.array([[0.1, 2.0], [0.6, 0.3]])  # batch means .35 and 1.15
    value, slope = jax.value_and_grad(lambda k: vae.free_bits_of_batch(k, 0.5).mean())(kl)
    np.testing.assert_allclose(value, 0.5 + 1.15)
    np.testing.assert_array_equal(slope, [[0, 0.5], [0, 0.5]])
    tie = jax.grad(lambda k: vae.free_bits_of_batch(k, 0.5).sum())(jnp.full((2, 1), 0.5))
    np.testing.assert_array_equal(tie, 0)  # not above λ itself
    shards = jax.pmap(
        partial(vae.free_bits_of_batch, nats=0.5, axis_name="data"),
        "data",
        devices=jax.devices()[:2],
    )(kl[:, None])
    np.testing.assert_allclose(shards[:, 0], vae.free_bits_of_batch(kl, 0.5))


def test_free_bits_apply_to_the_kl_of_the_elbo():
    def kl(mean, log_var):
        return vae.free_bits(vae.gaussian_kl_per_dimension(mean, log_var), 0.5)

    parts = vae.elbo(encode, decode, X, jax.random.key(0), nll=nll, kl=kl)
    by_dimension = reference_kl(X @ V.T, LOG_VAR)
    np.testing.assert_allclose(parts.kl, np.maximum(by_dimension, 0.5).sum(1), rtol=1e-5)


def test_mismatched_shapes_raise_naming_both():
    a, b = jnp.zeros((2, 3)), jnp.zeros((2, 4))
    for call in (
        lambda: vae.gaussian_kl(a, b),
        lambda: vae.gaussian_kl(a, a, (a, b)),
        lambda: vae.gaussian_kl(a, a, (b, a)),
        lambda: vae.reparameterize(a, b, jax.random.key(0)),
        lambda: vae.elbo(lambda x: (a, b), decode, X, jax.random.key(0), nll=nll),
    ):
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
            call()
    with pytest.raises(ValueError, match="3 keys for 2"):
        vae.reparameterize(a, a, jax.random.split(jax.random.key(0), 3))
