"""Recipes: each loss by its paper's formula in NumPy's float64, and the papers' settings."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax import recipes
from genjax.diffusion import discrete_schedules, predictions, samplers, steps
from genjax.losses import weightings

SHAPE = (512, 2, 3)


def network(z, condition):
    return jnp.tanh(z) * jnp.cos(condition)[:, None, None]


def in_float64(z, condition):
    return np.tanh(z) * np.cos(condition)[:, None, None]


def wide(a):
    return np.asarray(a, np.float64)[:, None, None]


def squares(a):
    return (a**2).sum((1, 2))


# Every formula: (x, eps, t) in float64 -> the paper's loss [B], with the paper's own constants.


def discrete(products):
    def loss(x, eps, t):
        alpha_bar = wide(products[np.round(t * 1000).astype(int) - 1])
        z = np.sqrt(alpha_bar) * x + np.sqrt(1 - alpha_bar) * eps
        return squares(eps - in_float64(z, t))

    return loss


ANGLES = (np.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2
COSINE = np.cos(ANGLES) ** 2
COSINE_BETAS = np.minimum(1 - COSINE[1:] / COSINE[:-1], 0.999)


def score_sde(alpha_and_sigma):
    def loss(x, eps, t):
        alpha, sigma = map(wide, alpha_and_sigma(t))
        z = alpha * x + sigma * eps
        score = -in_float64(z, t) / sigma
        # ∇ log q(z|x) of a Gaussian, and λ = σ².
        return squares(sigma * (score + (z - alpha * x) / sigma**2))

    return loss


def vp(t):
    log_alpha = -0.25 * t**2 * (20 - 0.1) - 0.5 * t * 0.1
    return np.exp(log_alpha), np.sqrt(1 - np.exp(2 * log_alpha))


def ve(t):
    return np.ones_like(t), 0.01 * (50 / 0.01) ** t


def v_prediction(x, eps, t):
    alpha, sigma = wide(np.cos(math.pi * t / 2)), wide(np.sin(math.pi * t / 2))
    return squares(alpha * eps - sigma * x - in_float64(alpha * x + sigma * eps, t))


def edm(x, eps, t):
    """As NVlabs/edm's EDMPrecond and EDMLoss."""
    sigma = (0.002 ** (1 / 7) + t * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    sigma_data, noise = 0.5, np.log(sigma) / 4
    sigma = wide(sigma)
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / np.sqrt(sigma**2 + sigma_data**2)
    c_in = 1 / np.sqrt(sigma_data**2 + sigma**2)
    y = x + sigma * eps
    return squares(np.sqrt(weight) * (c_skip * y + c_out * in_float64(c_in * y, noise) - x))


def flow(x, eps, t):
    return squares(eps - x - in_float64((1 - wide(t)) * x + wide(t) * eps, t))


def jit(x, eps, t):
    z, floored = (1 - wide(t)) * x + wide(t) * eps, np.maximum(wide(t), 0.05)
    return squares((z - x) / floored - (z - in_float64(z, t)) / floored)


FORMULAS = {
    "ddpm": discrete(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))),
    "improved_ddpm": discrete(np.cumprod(1 - COSINE_BETAS)),
    "score_sde_vp": score_sde(vp),
    "score_sde_ve": score_sde(ve),
    "v_prediction": v_prediction,
    "edm": edm,
    "rectified_flow": flow,
    "stable_diffusion_3": flow,
    "jit": jit,
}
# Distribution functions of the times.
CONTINUOUS = {
    "score_sde_vp": stats.uniform(1e-5, 1 - 1e-5).cdf,
    "score_sde_ve": stats.uniform(1e-5, 1 - 1e-5).cdf,
    "v_prediction": stats.uniform(0, 1).cdf,
    "edm": lambda t: stats.norm(-1.2, 1.2).cdf(
        7 * np.log(0.002 ** (1 / 7) + t * (80 ** (1 / 7) - 0.002 ** (1 / 7)))
    ),
    "rectified_flow": stats.uniform(0, 1).cdf,
    "stable_diffusion_3": lambda t: stats.norm(0, 1).cdf(special.logit(t)),
    # Of the paper's time 1 − t: logit-normal with mean −0.8.
    "jit": lambda t: 1 - stats.norm(-0.8, 0.8).cdf(special.logit(1 - t)),
}


def test_every_recipe_has_its_formula():
    names = {name for name, value in vars(recipes).items() if isinstance(value, recipes.Recipe)}
    assert names == FORMULAS.keys()


def times_and_noise(recipe, x, key):
    """What `denoising` draws from a key: its t and ε."""
    time_key, noise_key = jax.random.split(key)
    t = recipe.times(time_key, len(x))
    return np.float64(t), np.float64(jax.random.normal(noise_key, x.shape, x.dtype))


@pytest.mark.heavy
@pytest.mark.parametrize("name", FORMULAS)
def test_loss_is_the_formula_of_the_paper_in_float64(name):
    recipe, key = getattr(recipes, name), jax.random.key(0)
    with jax.enable_x64(True):
        x = 0.5 * jax.random.normal(jax.random.key(1), SHAPE, jnp.float64)
        loss = recipe.loss(network, x, key)
        t, eps = times_and_noise(recipe, x, key)
    expected = FORMULAS[name](np.float64(x), eps, t)
    # Schedules of times in float32 are evaluated in float32, here and there off by some 1e-6.
    np.testing.assert_allclose(loss, expected, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("name", FORMULAS)
def test_times_are_those_of_the_paper(name):
    t = np.float64(getattr(recipes, name).times(jax.random.key(2), 4000))
    if name in CONTINUOUS:
        assert stats.kstest(t, CONTINUOUS[name]).pvalue > 1e-3
    else:
        i = np.round(t * 1000)
        np.testing.assert_allclose(t, i / 1000, rtol=1e-6)
        assert 1 <= i.min() < i.max() <= 1000
        assert stats.kstest(t, stats.uniform(0, 1).cdf).pvalue > 1e-3


def test_settings_are_the_published_defaults():
    # NVlabs/edm: EDMLoss(P_mean=-1.2, P_std=1.2, sigma_data=0.5) and the sampler's noise levels.
    process = recipes.edm.schedule
    assert (process.sigma_min, process.sigma_max, process.rho) == (0.002, 80, 7)
    assert (recipes.edm.times.mean, recipes.edm.times.std) == (-1.2, 1.2)
    assert recipes.edm.times.schedule == process
    assert recipes.edm.target.data_std == 0.5
    # hojonathanho/diffusion and openai/improved-diffusion.
    linear = recipes.ddpm.schedule
    assert (linear.steps, linear.beta_start, linear.beta_end) == (1000, 1e-4, 0.02)
    cosine = recipes.improved_ddpm.schedule
    assert (cosine.steps, cosine.s, cosine.max_beta) == (1000, 0.008, 0.999)
    assert recipes.ddpm.times.steps == recipes.improved_ddpm.times.steps == 1000
    # yang-song/score_sde_pytorch: configs/default_cifar10_configs.py and losses.py.
    vp, ve = recipes.score_sde_vp, recipes.score_sde_ve
    assert (vp.schedule.beta_min, vp.schedule.beta_max) == (0.1, 20)
    assert (ve.schedule.sigma_min, ve.schedule.sigma_max) == (0.01, 50)
    assert {(r.times.low, r.times.high) for r in (vp, ve)} == {(1e-5, 1)}
    # Stable Diffusion 3: rf/lognorm(0.00, 1.00).
    logit_normal = recipes.stable_diffusion_3.times
    assert (logit_normal.mean, logit_normal.std) == (0, 1)
    # LTH14/JiT: P_mean = -0.8 and P_std = 0.8 with time reversed.
    assert (recipes.jit.times.mean, recipes.jit.times.std) == (0.8, 0.8)


def gaussian_network(recipe, std):
    """What a perfect network of the recipe outputs for x ~ N(0, std²), from its own two inputs."""
    given = []

    def remember(scaled, condition):
        given.append((scaled, condition))
        return scaled

    def predict(z, t):
        recipe.predict(remember)(z, t)
        alpha, sigma = recipe.schedule.alpha(t), recipe.schedule.sigma(t)
        total = (alpha * std) ** 2 + sigma**2
        x = (alpha * std**2 / total)[:, None, None] * z
        eps = (sigma / total)[:, None, None] * z
        return recipe.target.of(x, eps, alpha, sigma)

    return predict, given


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["edm", "v_prediction", "rectified_flow", "score_sde_vp"])
def test_a_perfect_network_samples_the_data(name):
    recipe, std = getattr(recipes, name), 0.5
    predict, _ = gaussian_network(recipe, std)
    samples = samplers.heun(
        replace(recipe, precondition=lambda z, t, *_: (z, t)).predict(predict),
        jax.random.key(0), SHAPE, schedule=recipe.schedule, target=recipe.target,
        steps=steps.linear(40, 1.0, 1e-4),
    )  # fmt: skip
    assert np.std(samples) == pytest.approx(std, rel=0.05)


@pytest.mark.heavy
def test_the_edm_network_gets_unit_variance_and_a_quarter_of_log_sigma():
    predict, given = gaussian_network(recipes.edm, 0.5)
    n, t = 4000, jnp.repeat(jnp.array([0.0, 0.4, 1.0]), 4000)
    sigma = recipes.edm.schedule.sigma(t)
    data, eps = jax.random.normal(jax.random.key(0), (2, 3 * n, 1, 1))
    predict(0.5 * data + sigma[:, None, None] * eps, t)
    ((scaled, condition),) = given
    np.testing.assert_allclose(np.std(scaled.reshape(3, n), 1), 1, atol=5 / np.sqrt(2 * n))
    np.testing.assert_allclose(condition, np.log(np.float64(sigma)) / 4, rtol=1e-5)


@pytest.mark.heavy
def test_a_part_can_be_exchanged():
    recipe = replace(recipes.ddpm, weight=weightings.min_snr(5.0))
    x, key = jax.random.normal(jax.random.key(1), SHAPE), jax.random.key(0)
    t, _ = times_and_noise(recipe, x, key)
    snr = np.exp(
        np.float64(discrete_schedules.DiscreteLinear().log_snr(jnp.asarray(t, jnp.float32)))
    )
    weighted, plain = (r.loss(network, x, key) for r in (recipe, recipes.ddpm))
    np.testing.assert_allclose(weighted / plain, np.minimum(snr, 5) / snr, rtol=1e-4)
    other = replace(recipes.edm, target=predictions.Preconditioned(1.0))
    z, t = jnp.ones((2, 1, 1)), jnp.array([0.2, 0.9])
    scaled, _ = other.precondition(z, t, other.schedule, other.target)
    expected = 1 / np.sqrt(1 + np.float64(other.schedule.sigma(t)) ** 2)
    np.testing.assert_allclose(scaled[:, 0, 0], expected, rtol=1e-5)
