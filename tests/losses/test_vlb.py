"""The discrete bound against Ho et al. in float64, and against the density of Gaussian data."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax.diffusion import discrete_schedules, predictions
from genjax.losses import vlb

STEPS = 20
SCHEDULE = discrete_schedules.DiscreteLinear(STEPS, 0.005, 0.4)
BETAS = np.linspace(0.005, 0.4, STEPS)
PRODUCTS = np.cumprod(1 - BETAS)
BEFORE = np.concatenate([[1.0], PRODUCTS[:-1]])
SMALL = BETAS * (1 - BEFORE) / (1 - PRODUCTS)
LEVELS = np.linspace(-1, 1, 256)


def image(shape=(STEPS, 3, 2)):
    return jnp.asarray(np.random.default_rng(0).choice(LEVELS, shape), jnp.float32)


def network(z, t):
    return 0.5 * jnp.sin(z) + jnp.cos(3 * t)[:, None, None]


def fraction(z, t):
    return jax.nn.sigmoid(z)


def gaussian_kl(mean, log_var, other_mean, other_log_var):
    ratio = log_var - other_log_var
    return 0.5 * (np.exp(ratio) - ratio - 1 + (mean - other_mean) ** 2 * np.exp(-other_log_var))


def bin_log_mass(x, mean, log_var):
    """Ho et al.'s eq. 13 by differences of the distribution function, from the nearer tail."""
    std = np.exp(0.5 * log_var)
    upper, lower = (x - mean + 1 / 255) / std, (x - mean - 1 / 255) / std
    upper, lower = np.where(x > 0.999, np.inf, upper), np.where(x < -0.999, -np.inf, lower)
    flip = (upper + lower) > 0
    upper, lower = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
    high, low = special.log_ndtr(upper), special.log_ndtr(lower)
    return high + np.log(-np.expm1(low - high))


VARIANCES = {
    "small": (vlb.small, lambda i, v: np.log(SMALL[max(i, 2) - 1])),
    "large": (vlb.large, lambda i, v: np.log(SMALL[1] if i == 1 else BETAS[i - 1])),
    "learned": (
        vlb.learned,
        lambda i, v: v * np.log(BETAS[i - 1]) + (1 - v) * np.log(SMALL[max(i, 2) - 1]),
    ),
}


@pytest.fixture(scope="module")
def terms_and_input():
    """L_{i-1} at every i of one batch under each variance, and the z and t the network got."""

    @jax.jit
    def run(x):
        seen, values = [], {}
        for name, (variance, _) in VARIANCES.items():

            def predict(z, t, name=name):
                seen.append((z, t))
                return (network(z, t), fraction(z, t)) if name == "learned" else network(z, t)

            values[name] = vlb.term(
                predict, x, jax.random.key(0), jnp.arange(1, STEPS + 1), schedule=SCHEDULE,
                target=predictions.noise, steps=STEPS, variance=variance, clip=(-1.0, 1.0),
            )  # fmt: skip
        return values, *seen[0]

    return run(image())


@pytest.mark.heavy
@pytest.mark.parametrize("variance", VARIANCES)
def test_every_term_is_that_of_ho_et_al_in_float64(variance, terms_and_input):
    terms, z, t = terms_and_input
    z, t, clean, expected = np.float64(z), np.float64(t), np.float64(image()), []
    for i in range(1, STEPS + 1):
        product, before, beta = PRODUCTS[i - 1], BEFORE[i - 1], BETAS[i - 1]
        eps = 0.5 * np.sin(z[i - 1]) + np.cos(3 * t[i - 1])
        estimate = (z[i - 1] - np.sqrt(1 - product) * eps) / np.sqrt(product)
        estimate = np.clip(estimate, -1, 1)
        mean, true_mean = (
            np.sqrt(before) * beta / (1 - product) * of
            + np.sqrt(1 - beta) * (1 - before) / (1 - product) * z[i - 1]
            for of in (estimate, clean[i - 1])
        )
        log_var = VARIANCES[variance][1](i, special.expit(z[i - 1]))
        if i == 1:
            expected.append(-bin_log_mass(clean[0], mean, log_var).sum())
        else:
            expected.append(gaussian_kl(true_mean, np.log(SMALL[i - 1]), mean, log_var).sum())
    np.testing.assert_allclose(terms[variance], expected, rtol=1e-4)


def test_prior_is_the_kl_to_a_standard_normal():
    x = image()
    alpha_bar = PRODUCTS[-1]
    exact = gaussian_kl(np.sqrt(alpha_bar) * np.float64(x), np.log(1 - alpha_bar), 0.0, 0.0).sum(
        (1, 2)
    )
    np.testing.assert_allclose(vlb.prior(x, schedule=SCHEDULE), exact, rtol=1e-5)
    # With 1,000 steps the KL of the variances alone is 4e-10, far below float32's 6e-8.
    tiny = vlb.prior(jnp.zeros((1, 1)), schedule=discrete_schedules.DiscreteLinear())
    alpha_bar = np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(tiny, -0.5 * (alpha_bar + np.log1p(-alpha_bar)), rtol=1e-2)


@pytest.mark.heavy
def test_vlb_adds_the_terms_of_all_steps():
    x = image((4, 3, 2))
    arguments = {"schedule": SCHEDULE, "target": predictions.velocity, "steps": STEPS}
    key = jax.random.key(1)
    parts = jax.jit(lambda x: vlb.bound(network, x, key, **arguments))(x)

    @jax.jit
    def term(i):
        return vlb.term(network, x, jax.random.fold_in(key, i), jnp.full(4, i), **arguments)

    terms = [term(i) for i in range(1, STEPS + 1)]
    np.testing.assert_allclose(parts.decoder, terms[0], rtol=1e-5)
    np.testing.assert_allclose(parts.transitions, sum(terms[1:]), rtol=1e-5)
    np.testing.assert_allclose(parts.prior, vlb.prior(x, schedule=SCHEDULE), rtol=1e-6)


def ideal(std, schedule, steps):
    """The exact reverse process of x ~ N(0, std²): E[x|z] and its variance as a fraction."""

    def predict(z, t):
        later = jnp.maximum(jnp.round(t * steps), 2)
        product, before = (schedule.alpha(v / steps) ** 2 for v in (later, later - 1))
        beta = 1 - product / before
        beta = jnp.where(t * steps < 1.5, schedule.sigma(t) ** 2, beta)
        small = (1 - before) / (1 - product) * (1 - product / before)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        left = std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)
        first = t * steps < 1.5
        share = jnp.sqrt(before) * (1 - product / before) / (1 - product)
        exact = jnp.where(first, left, small + share**2 * left)
        v = (jnp.log(exact) - jnp.log(small)) / (jnp.log(beta) - jnp.log(small))
        mean = (alpha * std**2 / (alpha**2 * std**2 + sigma**2))[:, None] * z
        return mean, jnp.broadcast_to(v[:, None], z.shape)

    return predict


@pytest.mark.heavy
@pytest.mark.parametrize("std", [1.0, 0.5])
def test_bound_of_the_exact_reverse_process_is_the_gaussians_entropy(std):
    schedule = discrete_schedules.DiscreteLinear(STEPS, 0.02, 0.6)
    n = 4000
    x = std * jax.random.normal(jax.random.key(0), (n, 2))
    predict = ideal(std, schedule, STEPS)
    parts = jax.jit(
        lambda x: vlb.bound(
            predict, x, jax.random.key(1), schedule=schedule, target=predictions.data,
            steps=STEPS, variance=vlb.learned, decoder=vlb.continuous_gaussian,
        )
    )(x)  # fmt: skip
    bound = np.float64(sum(parts))
    entropy = 2 * 0.5 * math.log(2 * math.pi * math.e * std**2)
    # What the bound keeps: z_1 is not quite N(0, I).
    last = np.prod(1 - np.linspace(0.02, 0.6, STEPS))
    gap = 2 * gaussian_kl(0.0, np.log(last * std**2 + 1 - last), 0.0, 0.0)
    error = 5 * bound.std() / np.sqrt(n)
    assert abs(bound.mean() - entropy - gap) < error
    assert error < 0.25


@pytest.mark.heavy
def test_bound_with_a_fixed_variance_approaches_the_entropy_with_more_steps():
    std, n, gaps = 0.1, 20_000, []
    x = std * jax.random.normal(jax.random.key(0), (n, 1))
    # The average of −log p(x) over these x: it carries the noise of x in the bound as well.
    average = -stats.norm(0, std).logpdf(np.asarray(x)).mean()
    for steps in (25, 100, 400):
        schedule = discrete_schedules.DiscreteLinear(steps, 0.1 / steps, 20 / steps)

        def predict(z, t, schedule=schedule):
            a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
            return a * std**2 / (a**2 * std**2 + s**2) * z

        def bound(x, predict=predict, schedule=schedule, steps=steps):
            return vlb.bound(
                predict, x, jax.random.key(1), schedule=schedule, target=predictions.data,
                steps=steps, variance=lambda _, low, high, step: high,
                decoder=vlb.continuous_gaussian,
            )  # fmt: skip

        gaps.append(float(sum(jax.jit(bound)(x)).mean()) - average)
    # First order in 1/steps, down to the noise of 20,000 draws.
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]
    assert abs(gaps[2]) < gaps[0] / 8


@jax.jit
def discretized_gaussian_vjp(x, mean, log_var):
    value, pull = jax.vjp(lambda *v: vlb.discretized_gaussian(x, *v), mean, log_var)
    return value, pull(jnp.ones_like(value))


MEANS = np.array([-0.9, -0.3, 0.0, 0.5, 0.99])


@pytest.mark.heavy
@pytest.mark.parametrize("log_var", [-14.0, -9.2, -6.0, -2.0, 3.0, 12.0])
def test_discretized_gaussian_is_the_mass_of_the_bin_in_value_and_gradient(log_var):
    x, mean = (np.ravel(v).astype(np.float32) for v in np.meshgrid(LEVELS, MEANS))
    exact = -bin_log_mass(np.float64(x), np.float64(mean), log_var)

    def exact_at(shift, spread):
        return -bin_log_mass(np.float64(x), np.float64(mean) + shift, log_var + spread)

    value, (by_mean, by_log_var) = discretized_gaussian_vjp(x, mean, np.full_like(x, log_var))
    # (x − mean)² is rounded at 1e-7 of itself twice; small values at 1e-6 of a nat.
    np.testing.assert_allclose(value, exact, rtol=2e-5, atol=2e-6)
    width = 1e-4 * math.exp(0.5 * log_var)
    slope = (exact_at(width, 0) - exact_at(-width, 0)) / (2 * width)
    tolerance = 1e-3 * np.abs(slope).max()
    np.testing.assert_allclose(by_mean, slope, rtol=2e-3, atol=tolerance)
    slope = (exact_at(0, 1e-4) - exact_at(0, -1e-4)) / 2e-4
    np.testing.assert_allclose(by_log_var, slope, rtol=2e-3, atol=1e-3)


def test_discretized_gaussian_sums_to_one_over_the_levels():
    mean, log_var = np.array([-3.0, 0.2, 1.0, 0.2, -0.99]), np.array([-3.0, -10.0, 0.0, 8.0, -14.0])
    # As many elements as in the test above, for its compilation.
    nll, _ = discretized_gaussian_vjp(
        *np.float32([np.tile(LEVELS, 5), np.repeat(mean, 256), np.repeat(log_var, 256)])
    )
    np.testing.assert_allclose(np.exp(-nll).reshape(5, 256).sum(1), 1, atol=2e-5)


def test_discretized_gaussian_is_finite_in_value_and_gradient_at_the_extremes():
    x, mean, log_var = np.meshgrid(
        LEVELS[[0, 1, 100, 255]], [0.0, -1e4, 1e4, 0.3, 1.0], np.linspace(-60, 60, 64)
    )
    x, mean, log_var = (np.ravel(v).astype(np.float32) for v in (x, mean, log_var))
    value, gradients = discretized_gaussian_vjp(x, mean, log_var)
    assert np.isfinite(value).all()
    assert (value >= 0).all()
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.heavy
@pytest.mark.parametrize("log_var", [-70.0, -100.0, -300.0])
def test_discretized_gaussian_of_an_overconfident_mean_is_finite_and_points_back(log_var):
    x = np.float32(LEVELS[[100, 255]])
    precision = math.exp(min(-0.5 * log_var, 36.8))
    value, (by_mean, by_log_var) = discretized_gaussian_vjp(x, x - 0.5, np.full_like(x, log_var))
    missed = (0.5 - 1 / 255) * precision
    np.testing.assert_allclose(value, 0.5 * missed**2, rtol=1e-3)
    np.testing.assert_allclose(by_mean, -missed * precision, rtol=1e-3)
    assert np.isfinite(by_log_var).all()
    # A mean so far off that its square would leave float32.
    value, gradients = discretized_gaussian_vjp(x, x - 1e7, np.full_like(x, log_var))
    np.testing.assert_allclose(value, 0.5e36, rtol=1e-3)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.heavy
def test_hybrid_trains_the_prediction_by_the_square_and_the_variance_by_the_bound():
    x, step, key = image((5, 3, 2)), jnp.array([1, 2, 7, 13, 20]), jax.random.key(0)
    arguments = {"schedule": SCHEDULE, "target": predictions.noise, "steps": STEPS}

    def predict(shift, spread):
        return lambda z, t: (network(z, t) + shift, fraction(z, t) + spread)

    def hybrid(shift, spread):
        return vlb.hybrid(predict(shift, spread), x, key, step, weight=0.01, **arguments).sum()

    def bound(shift, spread):
        return vlb.term(
            predict(shift, spread), x, key, step, variance=vlb.learned, **arguments
        ).sum()  # fmt: skip

    def simple(shift):
        eps = None

        def record(z, t):
            nonlocal eps
            t = t[:, None, None]
            eps = (z - SCHEDULE.alpha(t) * x) / SCHEDULE.sigma(t) - network(z, t[:, 0, 0])
            return z

        vlb.term(record, x, key, step, **arguments)
        return ((eps - shift) ** 2).sum()

    @jax.jit
    def all_of_them(shift, spread):
        return (
            jax.value_and_grad(hybrid, (0, 1))(shift, spread),
            jax.value_and_grad(bound, 1)(shift, spread),
            jax.value_and_grad(simple)(shift),
        )

    (value, (by_shift, by_spread)), (bounded, of_bound), (square, of_square) = all_of_them(0.0, 0.0)
    np.testing.assert_allclose(value, square + 0.01 * STEPS * bounded, rtol=1e-4)
    # The bound alone would move the prediction as well.
    np.testing.assert_allclose(by_shift, of_square, rtol=1e-3)
    np.testing.assert_allclose(by_spread, 0.01 * STEPS * of_bound, rtol=1e-4)


def test_bits_per_dim_of_a_uniform_guess_is_eight():
    nats = jnp.full(3, 32 * 32 * 3 * math.log(256))
    np.testing.assert_allclose(vlb.bits_per_dim(nats, (3, 32, 32, 3)), 8, rtol=1e-6)


def test_invalid_arguments_raise_with_one_line():
    x, key = image((4, 3, 2)), jax.random.key(0)
    arguments = {"schedule": SCHEDULE, "target": predictions.noise}
    with pytest.raises(ValueError, match=r"\(3,\) for x \(4, 3, 2\)"):
        vlb.term(network, x, key, jnp.ones(3), steps=STEPS, **arguments)
    with pytest.raises(ValueError, match="at least 2 steps"):
        vlb.term(network, x, key, jnp.ones(4, int), steps=1, **arguments)
    with pytest.raises(ValueError, match=r"\(prediction, fraction\)"):
        vlb.hybrid(network, x, key, jnp.ones(4, int), steps=STEPS, **arguments)
