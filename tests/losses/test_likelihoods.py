"""The likelihoods against float64 references written from their formulas, and as probabilities."""

import itertools
import math
from decimal import Decimal, localcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax.losses import likelihoods

RNG = np.random.default_rng(0)
logistic = jax.jit(likelihoods.discretized_logistic_nll)
mixture = jax.jit(likelihoods.discretized_logistic_mixture_nll, static_argnames="bins")


X = RNG.random((8, 4)).astype(np.float32)

# References, in float64: parameters and one image in, a number out.


def reference_bernoulli(logits, x):
    return -np.sum(x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits))


def reference_gaussian(mean, x, sigma=1.0):
    return -np.sum(stats.norm.logpdf(x, mean, sigma))


def reference_learned_variance(parameters, x):
    mean, log_var = parameters
    squares = (x - mean) ** 2 * np.exp(-log_var)
    return 0.5 * np.sum(squares + log_var + math.log(2 * math.pi))


def exact_logistic_bin(mean, log_scale, x, low=0.0, high=1.0, bins=256):
    """log P of one value, straight from the difference of two sigmoids, with enough digits."""
    digits = 60 + max(0, int(log_scale))
    with localcontext(prec=digits, Emin=-(10**12), Emax=10**12):
        D = Decimal
        width = (D(high) - D(low)) / (bins - 1)
        k = round((x - low) / float(width))
        scale = D(float(log_scale)).exp()
        edges = ((D(low) + (k + D(side) / 2) * width - D(float(mean))) / scale for side in (1, -1))
        upper, lower = edges
        if lower > 0:  # σ(b) − σ(a) = σ(−a) − σ(−b), away from 1 − 1
            at_upper = D(0) if k == bins - 1 else 1 / (1 + upper.exp())
            at_lower = D(1) if k == 0 else 1 / (1 + lower.exp())
            return float((at_lower - at_upper).ln())
        at_upper = D(1) if k == bins - 1 else 1 / (1 + (-upper).exp())
        at_lower = D(0) if k == 0 else 1 / (1 + (-lower).exp())
        return float((at_upper - at_lower).ln())


def reference_discretized_logistic(parameters, x):
    return -sum(map(exact_logistic_bin, *map(np.ravel, (*parameters, x))))


def reference_mixture(parameters, x):
    """One pixel of RGB: parameters [1, 1, 10K], x [1, 1, 3], mixture written out by component."""
    p, (r, g, b) = parameters[0, 0], x[0, 0]
    K = len(p) // 10
    (means, scales, couplings), total = p[K:].reshape(3, 3, K), []
    for k in range(K):
        gr, br, bg = np.tanh(couplings[:, k])
        m = means[:, k] + np.array([0, gr * r, br * r + bg * g])
        total.append(sum(map(exact_logistic_bin, m, scales[:, k], (r, g, b))))
    return -special.logsumexp(special.log_softmax(p[:K]) + np.array(total))


def reference_categorical(logits, x):
    return -np.sum(np.take_along_axis(special.log_softmax(logits, -1), x[..., None], -1))


# One element per image, so that an extreme one cannot hide the others in a sum.


def normal(*shape, scale=1.0):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def bytes_(*shape):
    return (RNG.integers(0, 256, shape) / 255).astype(np.float32)


def grid(*axes):
    return [np.float32(a).reshape(-1, 1) for a in np.meshgrid(*axes)]


EXTREME_LOGITS = [-1e4, -100, -89, -88, -1e-3, 0, 1e-3, 20, 88, 89, 100, 1e4]
EXTREME_BERNOULLI = grid(EXTREME_LOGITS, [0, 1e-3, 0.5, 1])
EXTREME_LEARNED = grid([0, 1, 1e3], [-50, -20, 0, 20, 80, 1e4], [0, 0.5])
EXTREME_LOGISTIC = grid([-3, -1e-3, 0.3, 1.1, 40], [-12, -7, -1, 5, 60, 300], [0, 2 / 255, 0.8, 1])
CATEGORIES = RNG.integers(0, 5, (16, 3))

CASES = {
    "bernoulli": (likelihoods.bernoulli_nll, reference_bernoulli, normal(16, 5), bytes_(16, 5)),
    "bernoulli, extreme": (likelihoods.bernoulli_nll, reference_bernoulli, *EXTREME_BERNOULLI),
    "gaussian": (
        partial(likelihoods.gaussian_nll, sigma=0.3),
        partial(reference_gaussian, sigma=0.3),
        normal(16, 5),
        bytes_(16, 5),
    ),
    "gaussian, narrow": (
        partial(likelihoods.gaussian_nll, sigma=1e-9),
        partial(reference_gaussian, sigma=1e-9),
        *grid([0, 1e-9, 0.3, 1e4], [0, 1]),
    ),
    "learned variance": (
        likelihoods.gaussian_learned_variance_nll,
        reference_learned_variance,
        (normal(16, 5), normal(16, 5)),
        bytes_(16, 5),
    ),
    "learned variance, extreme": (
        likelihoods.gaussian_learned_variance_nll,
        reference_learned_variance,
        tuple(EXTREME_LEARNED[:2]),
        EXTREME_LEARNED[2],
    ),
    "discretized logistic": (
        likelihoods.discretized_logistic_nll,
        reference_discretized_logistic,
        (normal(16, 5), normal(16, 5) - 3),
        bytes_(16, 5),
    ),
    "discretized logistic, extreme": (
        likelihoods.discretized_logistic_nll,
        reference_discretized_logistic,
        tuple(EXTREME_LOGISTIC[:2]),
        EXTREME_LOGISTIC[2],
    ),
    "mixture": (
        likelihoods.discretized_logistic_mixture_nll,
        reference_mixture,
        normal(16, 1, 1, 20, scale=2.0),
        bytes_(16, 1, 1, 3),
    ),
    "categorical": (
        likelihoods.categorical_nll,
        reference_categorical,
        normal(16, 3, 5, scale=3.0),
        CATEGORIES,
    ),
    "categorical, extreme": (
        likelihoods.categorical_nll,
        reference_categorical,
        normal(16, 3, 5, scale=1e4),
        CATEGORIES,
    ),
}

# A quadratic has exact differences at any step; a narrow logistic turns within 1e-6.
STEPS = {"gaussian, narrow": 1e-3, "discretized logistic, extreme": 1e-9}


def finite_differences(f, parameters, x, step=1e-6):
    """Central differences of f by every parameter, for one image in float64."""
    leaves, tree = jax.tree.flatten(parameters)
    slopes = [np.zeros_like(leaf) for leaf in leaves]
    for i, leaf in enumerate(leaves):
        for at in np.ndindex(leaf.shape):
            values = []
            for sign in (1, -1):
                moved = [other.copy() for other in leaves]
                moved[i][at] += sign * step
                values.append(f(jax.tree.unflatten(tree, moved), x))
            slopes[i][at] = (values[0] - values[1]) / (2 * step)
    return jax.tree.unflatten(tree, slopes)


@pytest.mark.heavy
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_the_float64_reference(case):
    loss, reference, parameters, x = CASES[case]

    def total(parameters):
        values = loss(parameters, x)
        return values.sum(), values

    gradient, values = jax.jit(jax.grad(total, has_aux=True))(parameters)
    wide = jax.tree.map(np.float64, parameters)
    images = x if x.dtype == CATEGORIES.dtype else np.float64(x)
    for b in range(len(x)):
        own = jax.tree.map(lambda a, b=b: a[b], wide)
        # float32 rounds each of a handful of operations by 6e-8.
        np.testing.assert_allclose(values[b], reference(own, images[b]), rtol=3e-6, atol=3e-6)
        slopes = finite_differences(reference, own, images[b], STEPS.get(case, 1e-6))
        for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(slopes), strict=True):
            np.testing.assert_allclose(ours[b], theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("value", "variance"), [(-1e4, 0.5), (-200, 0.5), (200, -0.5), (1e4, -0.5)]
)
def test_a_variance_beyond_float32_is_finite_and_its_gradient_points_back(value, variance):
    x, log_var = jnp.array([[0.5]]), jnp.array([[float(value)]])
    nll, (mean_slope, slope) = jax.value_and_grad(
        lambda p: likelihoods.gaussian_learned_variance_nll(p, x)[0]
    )((x - 0.25, log_var))
    assert np.isfinite([nll, *mean_slope.ravel(), *slope.ravel()]).all()
    assert (slope < 0) == (value < 0)
    at_mean = jax.grad(lambda v: likelihoods.gaussian_learned_variance_nll((x, v), x)[0])(log_var)
    assert at_mean[0, 0] == 0.5  # no residual: only ½ log σ² is left


@pytest.mark.heavy
def test_bernoulli_curves_at_a_zero_logit():
    def nll(logit):
        return likelihoods.bernoulli_nll(jnp.full((1, 1), logit), jnp.full((1, 1), 0.3))[0]

    second = jax.grad(jax.grad(nll))(0.0)
    assert second == 0.25  # σ(0)(1−σ(0))


@pytest.mark.parametrize(("low", "high", "bins"), [(0, 1, 256), (-1, 1, 256), (-1, 1, 32)])
def test_a_discretized_logistic_sums_to_one_over_its_values(low, high, bins):
    values = jnp.linspace(low, high, bins, dtype=jnp.float32)
    means = jnp.array([low - 5.0, low - 1e-3, low, 0.1234, values[7], (high + low) / 2, high, 9.0])
    log_scales = jnp.array([-1e4, -100.0, -20.0, -12.0, -7.0, -5.0, -3.0, 0.0, 8.0, 90.0, 1e4])

    @partial(jnp.vectorize, signature="(),()->()")
    def total(mean, log_scale):
        mean = jnp.full((bins, 1), mean)
        nll = likelihoods.discretized_logistic_nll(
            (mean, log_scale), values[:, None], low=low, high=high, bins=bins
        )
        return jnp.exp(-nll).sum()

    totals = jax.jit(total)(means[:, None], log_scales[None])
    # Where the scale is far under a bin, one value has all the mass; 256 roundings otherwise.
    np.testing.assert_allclose(totals, np.ones((8, 11)), atol=3e-5)


def test_a_coupled_mixture_sums_to_one_over_every_rgb_pixel():
    bins, K = 4, 3
    pixels = np.array([*itertools.product(np.linspace(0, 1, bins), repeat=3)], np.float32)
    for scale in (1.0, 4.0):
        p = jnp.broadcast_to(normal(1, 1, 1, 10 * K, scale=scale), (bins**3, 1, 1, 10 * K))
        nll = mixture(p, pixels[:, None, None], bins=bins)
        np.testing.assert_allclose(np.exp(-nll).sum(), 1, atol=1e-5)


def test_one_component_without_coupling_is_the_plain_discretized_logistic():
    mean, log_scale, x = normal(4, 2, 2, 3), normal(4, 2, 2, 3), bytes_(4, 2, 2, 3)
    zeros = np.zeros((4, 2, 2, 3), np.float32)
    parameters = np.concatenate([zeros[..., :1], mean, log_scale, zeros], -1)
    np.testing.assert_allclose(
        mixture(parameters, x),
        logistic((mean, log_scale), x),
        rtol=1e-6,
    )


def test_a_grey_mixture_takes_three_numbers_per_component():
    weights, means, scales = normal(3, 4, 4, 2), normal(3, 4, 4, 2), normal(3, 4, 4, 2)
    x = bytes_(3, 4, 4, 1)
    parameters = np.concatenate([weights, means, scales], -1)
    per_component = [
        np.vectorize(exact_logistic_bin)(means[..., k], scales[..., k], np.float64(x[..., 0]))
        for k in range(2)
    ]
    log_p = special.logsumexp(
        special.log_softmax(np.float64(weights), -1) + np.stack(per_component, -1), -1
    )
    np.testing.assert_allclose(mixture(parameters, x), -log_p.sum((1, 2)), rtol=1e-6)


def test_bytes_cast_to_bfloat16_hardly_change_the_likelihood():
    # 7 bits of mantissa move a pixel by less than a bin, and never out of the range of bins.
    mean, x = np.full((8, 32), 0.5, np.float32), bytes_(8, 32)
    exact = logistic((mean, jnp.float32(0)), x)
    rounded = logistic((mean, jnp.float32(0)), jnp.bfloat16(x))
    np.testing.assert_allclose(rounded, exact, rtol=1e-3)


@pytest.mark.heavy
def test_the_optimal_variance_minimises_the_batch_mean_which_is_half_d_log_mse():
    mean, x = normal(8, 5), bytes_(8, 5)
    mse = np.mean((np.float64(x) - mean) ** 2)

    def half_d_log_mse(mean, x):
        return 2.5 * (math.log(2 * math.pi) + 1 + np.log(np.mean((x - mean) ** 2)))

    best, slope = jax.value_and_grad(
        lambda m: likelihoods.gaussian_optimal_variance_nll(m, x).mean()
    )(mean)
    np.testing.assert_allclose(likelihoods.optimal_variance(mean, x), mse, rtol=1e-6)
    np.testing.assert_allclose(best, half_d_log_mse(np.float64(mean), x), rtol=1e-6)
    slopes = finite_differences(half_d_log_mse, np.float64(mean), x)
    np.testing.assert_allclose(slope, slopes, rtol=1e-4, atol=1e-6)
    for factor in (0.9, 1.1):
        assert likelihoods.gaussian_nll(mean, x, sigma=factor * math.sqrt(mse)).mean() > best


def test_the_gradient_of_one_image_treats_the_optimal_variance_as_constant():
    mean, x = normal(8, 5), bytes_(8, 5)
    ours = jax.grad(lambda m: likelihoods.gaussian_optimal_variance_nll(m, x)[0])(mean)
    variance = np.mean((np.float64(x) - mean) ** 2)
    np.testing.assert_allclose(ours[0], (mean - x)[0] / variance, rtol=1e-5)
    np.testing.assert_array_equal(ours[1:], 0)


@pytest.mark.heavy
def test_a_perfect_reconstruction_reaches_the_floor_and_not_log_zero():
    x = bytes_(4, 3)
    nll, slope = jax.value_and_grad(
        lambda m: likelihoods.gaussian_optimal_variance_nll(m, x).sum()
    )(x)
    np.testing.assert_allclose(nll, 4 * reference_gaussian(np.zeros(3), np.zeros(3), np.exp(-6)))
    assert not slope.any()


def test_the_optimal_variance_on_eight_devices_is_that_of_the_global_batch():
    mean, x = normal(16, 5), bytes_(16, 5)
    nll = jax.pmap(
        partial(likelihoods.gaussian_optimal_variance_nll, axis_name="data"), axis_name="data"
    )(mean.reshape(8, 2, 5), x.reshape(8, 2, 5))
    full = likelihoods.gaussian_optimal_variance_nll(mean, x)
    np.testing.assert_allclose(nll.reshape(16), full, rtol=1e-5)


TRANSFORMED = [name for name in CASES if "," not in name]


@pytest.mark.heavy
@pytest.mark.parametrize("case", TRANSFORMED)
def test_vmap_and_pmap_agree_with_the_batch_and_bfloat16_sums_in_float32(case):
    loss, _, parameters, x = CASES[case]
    loss = jax.jit(loss)
    full = loss(parameters, x)
    assert full.shape == (16,)

    def one(parameters, x):
        return loss(jax.tree.map(lambda a: a[None], parameters), x[None])[0]

    np.testing.assert_allclose(jax.vmap(one)(parameters, x), full, rtol=1e-5)
    halves = jax.tree.map(lambda a: a.reshape(8, 2, *a.shape[1:]), (parameters, x))
    np.testing.assert_allclose(jax.pmap(loss)(*halves).reshape(16), full, rtol=1e-5)
    rounded = jax.tree.map(jnp.bfloat16, parameters)
    wide = jax.tree.map(jnp.float32, rounded)
    assert loss(rounded, x).dtype == jnp.float32
    np.testing.assert_array_equal(loss(rounded, x), loss(wide, x))


@pytest.mark.parametrize(
    ("loss", "parameters", "x"),
    [
        (likelihoods.bernoulli_nll, np.zeros((2, 3)), np.zeros((2, 4))),
        (likelihoods.gaussian_nll, np.zeros((2, 3)), np.zeros((2, 4))),
        (
            likelihoods.gaussian_learned_variance_nll,
            (np.zeros((2, 4)), np.zeros((2, 3))),
            np.zeros((2, 4)),
        ),
        (
            likelihoods.gaussian_learned_variance_nll,
            (np.zeros((2, 4)), np.zeros(4)),
            np.zeros((2, 4)),
        ),
        (likelihoods.gaussian_optimal_variance_nll, np.zeros((2, 3)), np.zeros((2, 4))),
        (
            likelihoods.discretized_logistic_nll,
            (np.zeros((2, 3)), np.zeros((2, 3))),
            np.zeros((2, 4)),
        ),
        (likelihoods.discretized_logistic_mixture_nll, np.zeros((2, 3)), np.zeros((2, 4))),
        (likelihoods.categorical_nll, np.zeros((2, 3)), np.zeros((2, 4), int)),
    ],
)
def test_mismatched_shapes_raise_naming_both(loss, parameters, x):
    with pytest.raises(ValueError, match=r"\(2, 4\)") as error:
        loss(parameters, x)
    assert any(shape in str(error.value) for shape in ("(2, 3)", "(4,)"))


def test_a_category_out_of_range_is_nan_and_a_float_one_raises():
    logits = np.zeros((2, 5), np.float32)
    assert np.isnan(likelihoods.categorical_nll(logits, np.array([5, -1]))).all()
    with pytest.raises(TypeError, match="integers"):
        likelihoods.categorical_nll(logits, np.zeros(2))
