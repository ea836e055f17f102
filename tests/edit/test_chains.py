"""R̂ and effective samples of autoregressive chains, whose correlations are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit import chains as markov

split_r_hat = jax.jit(markov.split_r_hat)
effective_sample_size = jax.jit(markov.effective_sample_size)

DECAY = np.array([-0.3, 0.0, 0.5, 0.9])


def chains(m=8, n=4001):
    """[m, n, 4]: x_t = a x_{t-1} + √(1 − a²) ε; worth m n (1 − a)/(1 + a) independent draws."""
    noise = np.random.default_rng(0).normal(size=(m, n, 4))
    x = noise.copy()
    for t in range(1, n):
        x[:, t] = DECAY * x[:, t - 1] + np.sqrt(1 - DECAY**2) * noise[:, t]
    return x.astype(np.float32)


CHAINS = chains()


def test_correlated_draws_are_worth_less():
    expected = CHAINS.shape[0] * 4000 * (1 - DECAY) / (1 + DECAY)
    # Over other draws than these the estimates vary by 4 % at a decay of 0.9, where it is most.
    np.testing.assert_allclose(effective_sample_size(CHAINS), expected, rtol=0.1)


def test_r_hat_is_one_of_chains_alike_and_finds_shifts_and_drifts():
    assert (split_r_hat(CHAINS) < 1.01).all()
    shift = np.where(np.arange(8) < 4, 0, 1.0)[:, None, None].astype(np.float32)
    # Halves of means 0 and 1 and variance 1: R̂² = 1 + n/(n − 1) · 1/4, nearly.
    np.testing.assert_allclose(split_r_hat(CHAINS + shift)[:3], np.sqrt(1.25), rtol=0.03)
    drift = np.linspace(0, 2, 4001, dtype=np.float32)[None, :, None]
    assert (split_r_hat(CHAINS + drift) > 1.1).all()  # halves differ
    assert (effective_sample_size(CHAINS + shift) < 100).all()


def test_chains_that_stand_still_are_no_numbers_over_zero():
    still = jnp.zeros((2, 8))
    assert split_r_hat(still) == 1
    assert effective_sample_size(still) == 16
    assert split_r_hat(still + jnp.array([[0.0], [1.0]])) == jnp.inf


def test_the_worst_number_of_a_latent_counts():
    draws = jnp.stack([CHAINS, CHAINS[..., ::-1]])[..., None]
    r_hat, effective = jax.jit(markov.diagnose)(draws)
    np.testing.assert_allclose(r_hat, split_r_hat(CHAINS).max(), rtol=1e-6)
    np.testing.assert_allclose(effective, effective_sample_size(CHAINS).min(), rtol=1e-5)


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="at least 4 draws to be compared, not 3"):
        split_r_hat(jnp.zeros((2, 3)))


def test_against_numpyro():
    numpyro = pytest.importorskip("numpyro.diagnostics")
    few = CHAINS[:, :200]
    halves = np.concatenate([few[:, :100], few[:, 100:]])
    np.testing.assert_allclose(split_r_hat(few), numpyro.split_gelman_rubin(few), rtol=1e-5)
    expected = numpyro.effective_sample_size(halves)
    np.testing.assert_allclose(effective_sample_size(few), expected, rtol=1e-3)
