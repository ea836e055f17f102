"""The three parts of a VAE's KL against brute force over a data set of known posteriors."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.losses import beta_tc, likelihoods, vae

RNG = np.random.default_rng(0)
B, D, N = 5, 3, 40
MEAN, LOG_VAR, NOISE = (RNG.standard_normal((B, D)).astype(np.float32) for _ in range(3))
ESTIMATORS = [beta_tc.minibatch_stratified, beta_tc.minibatch_weighted]
decompose = jax.jit(beta_tc.decompose_kl)


def densities(mean, log_var, noise):
    """q(z_i|x_j) by latent, [i, j, D], and log p(z_i), from scipy in float64."""
    mean, log_var, noise = map(np.float64, (mean, log_var, noise))
    z = mean + np.exp(log_var / 2) * noise
    return stats.norm.pdf(z[:, None], mean[None], np.exp(log_var / 2)), stats.norm.logpdf(z)


def reference(mean, log_var, noise, weights):
    """The three parts with plain sums of densities, [3, B]."""
    q, log_p = densities(mean, log_var, noise)
    conditional = np.log(np.einsum("iid->id", q)).sum(1)
    joint = np.log(np.einsum("ij,ij->i", weights, q.prod(2)))
    marginals = np.log(np.einsum("ij,ijd->id", weights, q)).sum(1)
    return np.stack([conditional - joint, joint - marginals, marginals - log_p.sum(1)])


def reference_weights(estimator):
    if estimator is beta_tc.minibatch_weighted:
        return np.full((B, B), 1 / (N * B))
    others = (N - 1) / (N * (B - 1))
    return np.where(np.eye(B, dtype=bool), 1 / N, others)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parts_and_gradients_are_the_float64_reference(estimator):
    weights = reference_weights(estimator)
    log_weights = estimator(B, N)
    np.testing.assert_allclose(np.exp(log_weights), weights, rtol=1e-5)
    inputs = (MEAN, LOG_VAR, NOISE)
    parts = np.stack(decompose(*inputs, log_weights))
    np.testing.assert_allclose(parts, reference(*inputs, weights), rtol=1e-5, atol=1e-5)

    # An arbitrary mix of the 3·B numbers, so that no gradient hides another.
    mix = RNG.standard_normal((3, B)).astype(np.float32)
    slopes = jax.jit(
        jax.grad(lambda m, v: jnp.sum(mix * jnp.stack(decompose(m, v, NOISE, log_weights))), (0, 1))
    )(MEAN, LOG_VAR)
    for which, at in itertools.product((0, 1), np.ndindex(B, D)):
        values = []
        for step in (1e-5, -1e-5):
            moved = [np.float64(a) for a in inputs]
            moved[which][at] += step
            values.append(np.sum(mix * reference(*moved, weights)))
        expected = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(slopes[which][at], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_parts_add_up_to_the_sampled_kl_for_any_weights(estimator):
    q, log_p = densities(MEAN, LOG_VAR, NOISE)
    sampled = np.log(np.einsum("iid->id", q)).sum(1) - log_p.sum(1)
    parts = decompose(MEAN, LOG_VAR, NOISE, estimator(B, N))
    np.testing.assert_allclose(sum(parts), sampled, rtol=1e-5, atol=1e-5)


def test_stratified_weights_estimate_q_without_bias():
    # Every batch of 3 from a data set of 5 that holds image 0: their mean is q(z_0) itself.
    q = densities(MEAN, LOG_VAR, NOISE)[0].prod(2)
    weights = np.exp(beta_tc.minibatch_stratified(3, B))
    estimates = [
        weights[0] @ q[0, [0, *others]] for others in itertools.combinations(range(1, B), 2)
    ]
    np.testing.assert_allclose(np.mean(estimates), q[0].mean(), rtol=1e-5)
    weighted = np.exp(beta_tc.minibatch_weighted(3, B))[0, 0] * 3
    assert weighted < 0.5  # minibatch-weighted sampling has not even the mass of a density


def test_over_the_complete_data_set_the_parts_are_exact():
    full = decompose(MEAN, LOG_VAR, NOISE, beta_tc.minibatch_stratified(B, B))
    exact = reference(MEAN, LOG_VAR, NOISE, np.full((B, B), 1 / B))
    np.testing.assert_allclose(np.stack(full), exact, rtol=1e-5, atol=1e-5)


def test_distinguishable_codes_carry_log_n_nats_and_tied_latents_correlate():
    # Ten distant codes whose three latents are equal: I = log N, TC = (D−1)·log N.
    n = 10
    mean = np.repeat(np.arange(n, dtype=np.float32)[:, None] * 100, D, 1)
    noise = RNG.standard_normal((n, D)).astype(np.float32)
    information, correlation, _ = decompose(
        mean, np.zeros((n, D), np.float32), noise, beta_tc.minibatch_stratified(n, n)
    )
    np.testing.assert_allclose(information, math.log(n), rtol=1e-4)
    np.testing.assert_allclose(correlation, (D - 1) * math.log(n), rtol=1e-4)


def encode(x):
    return x[:, :2], x[:, 2:]


X = RNG.standard_normal((16, 4)).astype(np.float32)
decode = partial(jnp.pad, pad_width=((0, 0), (0, 2)))
sampled_elbo = jax.jit(partial(vae.elbo, encode, decode, nll=likelihoods.gaussian_nll))
call = jax.jit(partial(beta_tc.beta_tc, encode, decode, nll=likelihoods.gaussian_nll, dataset=1000))


def test_the_loss_weighs_each_part_and_at_one_is_a_sampled_elbo():
    parts = call(X, jax.random.key(0))
    elbo = sampled_elbo(X, jax.random.key(0))
    np.testing.assert_allclose(parts.nll, elbo.nll, rtol=1e-5)  # same key, same code
    kl = parts.mutual_information + parts.total_correlation + parts.dimension_wise_kl
    np.testing.assert_allclose(parts.loss(), parts.nll + kl, rtol=1e-5)
    np.testing.assert_allclose(
        parts.loss(alpha=0, beta=6, gamma=2),
        parts.nll + 6 * parts.total_correlation + 2 * parts.dimension_wise_kl,
        rtol=1e-5,
        atol=1e-4,
    )
    # The sampled KL scatters around the analytic one: their means agree to four standard errors.
    difference = kl - elbo.kl
    assert abs(difference.mean()) < 4 * difference.std() / 4


@pytest.mark.heavy
def test_pmap_vmap_per_example_keys_and_bfloat16():
    keys = jax.random.split(jax.random.key(0), 16)
    shards, split = X.reshape(8, 2, 4), keys.reshape(8, 2)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    mapped, batched = jax.pmap(call)(shards, split), jax.jit(jax.vmap(call))(shards, split)
    jax.tree.map(close, mapped, batched)
    # A device's parts are its own two images', as if they were the batch.
    jax.tree.map(lambda a, b: close(a, b[3]), call(shards[3], split[3]), mapped)
    rounded = call(jnp.bfloat16(X), keys)
    assert all(part.dtype == jnp.float32 for part in rounded)
    np.testing.assert_allclose(rounded.loss(), call(X, keys).loss(), rtol=0.05, atol=0.05)


def test_extreme_variances_give_finite_parts_and_gradients():
    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def total(m, v):
        return sum(p.sum() for p in decompose(m, v, NOISE, beta_tc.minibatch_stratified(B, N)))

    for log_var in (-1e4, -60, 80, 1e4):
        value, slopes = total(MEAN, np.full((B, D), log_var, np.float32))
        assert np.isfinite(value)
        assert np.isfinite(slopes).all()


@pytest.mark.heavy
def test_codes_of_an_extreme_encoder_are_finite():
    def loss(log_var):
        parts = beta_tc.beta_tc(
            lambda x: (x, jnp.full_like(x, log_var)),
            lambda z: z,
            X,
            jax.random.key(0),
            nll=likelihoods.gaussian_nll,
            dataset=1000,
        )
        return parts.loss().sum()

    for log_var in (-1e4, 90.0, 1e3):
        assert np.isfinite(jax.jit(jax.value_and_grad(loss))(log_var)).all()


def test_a_narrow_posterior_keeps_its_own_density():
    # z − μ in float32 would have lost a σ of 1e-10 beside a μ of 1.
    mean, log_var = np.ones((2, 1), np.float32), np.full((2, 1), -46, np.float32)
    noise = np.array([[0.5], [-1.5]], np.float32)
    total = sum(decompose(mean, log_var, noise, beta_tc.minibatch_stratified(2, 2)))
    expected = -0.5 * noise[:, 0] ** 2 + 23 + 0.5
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_bad_sizes_raise_naming_both():
    with pytest.raises(ValueError, match=r"batch is 1, dataset is 9"):
        beta_tc.minibatch_stratified(1, 9)
    with pytest.raises(ValueError, match=r"batch is 10, dataset is 9"):
        beta_tc.minibatch_stratified(10, 9)
    with pytest.raises(ValueError, match=r"\(16, 1\).*\(16, 3\)"):
        beta_tc.beta_tc(
            lambda x: (x[:, :1], x[:, 1:]),
            decode,
            X,
            jax.random.key(0),
            nll=likelihoods.gaussian_nll,
            dataset=1000,
        )
