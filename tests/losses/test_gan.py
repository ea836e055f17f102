"""The adversarial losses against float64 NumPy, and their values at optimal critics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit

from genjax.losses import gan

EPS32 = float(np.finfo(np.float32).eps)
TINY32 = float(np.finfo(np.float32).tiny)  # smaller numbers are flushed to zero


def softplus(x):
    return -log_expit(-x)


# Each game as in its paper: the value and slope of the critic's loss at real, at fake, and
# of the generator's loss at fake, in float64.
SMOOTH_REAL, SMOOTH_FAKE = 0.9, 0.2
A, B, C = -1.0, 1.0, 0.0
SEPARABLE = {
    "minimax": (
        gan.minimax,
        (lambda r: -log_expit(r), lambda r: -expit(-r)),
        (lambda f: -log_expit(-f), expit),
        (lambda f: log_expit(-f), lambda f: -expit(f)),
    ),
    "non_saturating": (
        gan.non_saturating,
        (lambda r: -log_expit(r), lambda r: -expit(-r)),
        (lambda f: -log_expit(-f), expit),
        (lambda f: -log_expit(f), lambda f: -expit(-f)),
    ),
    "hinge": (
        gan.hinge,
        (lambda r: np.maximum(0, 1 - r), lambda r: -1.0 * (r < 1)),
        (lambda f: np.maximum(0, 1 + f), lambda f: 1.0 * (f > -1)),
        (lambda f: -f, lambda f: -np.ones_like(f)),
    ),
    "wasserstein": (
        gan.wasserstein,
        (lambda r: -r, lambda r: -np.ones_like(r)),
        (lambda f: f, np.ones_like),
        (lambda f: -f, lambda f: -np.ones_like(f)),
    ),
    "least_squares": (
        gan.least_squares(A, B, C),
        (lambda r: (r - B) ** 2 / 2, lambda r: r - B),
        (lambda f: (f - A) ** 2 / 2, lambda f: f - A),
        (lambda f: (f - C) ** 2 / 2, lambda f: f - C),
    ),
    "label_smoothing": (
        gan.label_smoothing(SMOOTH_REAL, SMOOTH_FAKE),
        (
            lambda r: -SMOOTH_REAL * log_expit(r) - (1 - SMOOTH_REAL) * log_expit(-r),
            lambda r: expit(r) - SMOOTH_REAL,
        ),
        (
            lambda f: -SMOOTH_FAKE * log_expit(f) - (1 - SMOOTH_FAKE) * log_expit(-f),
            lambda f: expit(f) - SMOOTH_FAKE,
        ),
        (lambda f: -log_expit(f), lambda f: -expit(-f)),
    ),
}
COUPLED = {
    "relativistic_average": gan.relativistic_average(),
    "relativistic_pairing": gan.relativistic_pairing,
}
GAMES = {name: entry[0] for name, entry in SEPARABLE.items()} | COUPLED


def logits():
    """Every pair of ordinary and extreme outputs, none on the hinge's corner."""
    values = np.concatenate(
        [np.random.default_rng(0).normal(0, 3, 10), [0, 88, -88, 200, -200, 1e4, -1e4]]
    ).astype(np.float32)
    return tuple(grid.ravel() for grid in np.meshgrid(values, values))


def value_and_slopes(loss, real, fake, weights):
    """The loss, and the gradient of its weighted sum with respect to both outputs."""

    @jax.jit
    def run(real, fake):
        value, pull_back = jax.vjp(loss, real, fake)
        return value, *pull_back(weights)

    return run(real, fake)


def assert_close(ours, theirs, scale, roundings=8):
    """Float32 arithmetic on numbers up to `scale` may lose some units in its last place."""
    atol = max(roundings * EPS32 * scale, 2 * TINY32)  # two terms, each flushed
    np.testing.assert_allclose(ours, theirs, rtol=roundings * EPS32, atol=atol)


@pytest.mark.parametrize("name", SEPARABLE)
def test_value_and_gradient_equal_the_papers_formula_up_to_logits_of_1e4(name):
    game, (on_real, d_real), (on_fake, d_fake), (on_generated, d_generated) = SEPARABLE[name]
    real, fake = logits()
    r, f = real.astype(np.float64), fake.astype(np.float64)
    weights = np.random.default_rng(1).normal(size=len(r)).astype(np.float32)

    value, to_real, to_fake = value_and_slopes(game.discriminator, real, fake, weights)
    # Values to relative precision, also in the tails; slopes of smoothed labels are differences.
    assert_close(value, on_real(r) + on_fake(f), scale=0)
    assert_close(to_real, weights * d_real(r), scale=1)
    assert_close(to_fake, weights * d_fake(f), scale=1)

    value, to_real, to_fake = value_and_slopes(game.generator, real, fake, weights)
    assert_close(value, on_generated(f), scale=0)
    assert_close(to_real, np.zeros_like(r), scale=0)
    assert_close(to_fake, weights * d_generated(f), scale=1)
    np.testing.assert_array_equal(game.generator(None, fake), game.generator(real, fake))


def test_relativistic_average_equals_the_papers_formula_in_both_directions():
    real, fake = logits()
    r, f = real.astype(np.float64), fake.astype(np.float64)
    w = np.random.default_rng(2).normal(size=len(r)).astype(np.float32)
    n, to_fake_mean, to_real_mean = len(r), r - f.mean(), f - r.mean()
    scale = np.abs(r).max()

    value, d_real, d_fake = value_and_slopes(
        gan.relativistic_average().discriminator, real, fake, w
    )
    assert_close(value, softplus(-to_fake_mean) + softplus(to_real_mean), scale)
    # Slopes are smooth in the logits, whose error is that of a mean of numbers up to `scale`.
    slack = {"rtol": 0, "atol": 8 * EPS32 * scale * np.abs(w).max()}
    np.testing.assert_allclose(
        d_real, -w * expit(-to_fake_mean) - (w * expit(to_real_mean)).mean(), **slack
    )
    np.testing.assert_allclose(
        d_fake, w * expit(to_real_mean) + (w * expit(-to_fake_mean)).mean(), **slack
    )

    value, d_real, d_fake = value_and_slopes(gan.relativistic_average().generator, real, fake, w)
    assert_close(value, softplus(to_fake_mean) + softplus(-to_real_mean), scale)
    np.testing.assert_allclose(
        d_fake, -w * expit(-to_real_mean) - (w * expit(to_fake_mean)).sum() / n, **slack
    )
    np.testing.assert_allclose(
        d_real, w * expit(to_fake_mean) + (w * expit(-to_real_mean)).sum() / n, **slack
    )


@pytest.mark.parametrize(
    ("base", "real_term", "fake_term"),
    [
        (gan.hinge, lambda r: np.maximum(0, 1 - r), lambda f: np.maximum(0, 1 + f)),
        (gan.least_squares(-1, 1), lambda r: (r - 1) ** 2 / 2, lambda f: (f + 1) ** 2 / 2),
        (gan.least_squares(0, 1), lambda r: (r - 1) ** 2 / 2, lambda f: f**2 / 2),
    ],
    ids=["hinge", "least_squares", "least_squares_asymmetric"],
)
def test_relativistic_average_of_another_base_equals_its_formula(base, real_term, fake_term):
    real, fake = np.random.default_rng(3).normal(size=(2, 40)).astype(np.float32)
    r, f = real - fake.mean(dtype=float), fake - real.mean(dtype=float)
    game = gan.relativistic_average(base)
    assert_close(game.discriminator(real, fake), real_term(r) + fake_term(f), scale=4)
    assert_close(game.generator(real, fake), real_term(f) + fake_term(r), scale=4)


def test_relativistic_pairing_equals_the_papers_formula():
    real, fake = logits()
    gap = real.astype(np.float64) - fake.astype(np.float64)
    w = np.random.default_rng(4).normal(size=len(gap)).astype(np.float32)
    for loss, sign in [
        (gan.relativistic_pairing.discriminator, 1),
        (gan.relativistic_pairing.generator, -1),
    ]:
        value, d_real, d_fake = value_and_slopes(loss, real, fake, w)
        assert_close(value, -log_expit(sign * gap), scale=1)
        # A difference of float32 is rounded once, which moves the slope by that much at most.
        slope = -sign * w * expit(-sign * gap)
        np.testing.assert_allclose(d_real, slope, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(d_fake, -slope, rtol=1e-5, atol=1e-7)


# Optimal critics on two discrete distributions


def two_distributions(size=12):
    p, q = np.random.default_rng(5).dirichlet(np.ones(size), 2)
    return p, q


def expected(loss, p, q, critic):
    """E_{x~p, x'~q} loss(D(x), D(x')), summed over all pairs of places."""
    rows, columns = np.indices((len(p), len(q))).reshape(2, -1)
    return (loss(critic[rows], critic[columns]) * (p[rows] * q[columns])).sum()


def assert_optimal(loss, p, q, critic):
    critic = jnp.asarray(critic, jnp.float32)
    slope = jax.jit(jax.grad(lambda critic: expected(loss, p, q, critic)))(critic)
    # Slopes of single terms are of the order of p and q, which sum to one.
    np.testing.assert_allclose(slope, 0, atol=16 * EPS32)


def test_minimax_at_its_optimal_critic_is_twice_jsd_minus_log_4():
    p, q = two_distributions()
    m = (p + q) / 2
    jsd = (p * np.log(p / m) + q * np.log(q / m)).sum() / 2
    critic = np.log(p) - np.log(q)
    value = -expected(gan.minimax.discriminator, p, q, critic.astype(np.float32))
    np.testing.assert_allclose(value, 2 * jsd - np.log(4), rtol=16 * EPS32)
    assert_optimal(gan.minimax.discriminator, p, q, critic)


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 1.0), (3.0, 1.0), (1.0, 2.0)])
def test_minimax_between_gaussians_is_twice_jsd_minus_log_4(mean, deviation):
    x, step = np.linspace(-25, 25, 501, retstep=True)
    log_p = -(x**2) / 2 - np.log(2 * np.pi) / 2
    log_q = -(((x - mean) / deviation) ** 2) / 2 - np.log(2 * np.pi) / 2 - np.log(deviation)
    p, q, log_m = np.exp(log_p), np.exp(log_q), np.logaddexp(log_p, log_q) - np.log(2)
    jsd = step * (p * (log_p - log_m) + q * (log_q - log_m)).sum() / 2
    critic = (log_p - log_q).astype(np.float32)
    # The real term under p and the fake term under q, at one and the same x.
    real_term = gan.minimax.generator(None, -critic)  # log σ(D)
    fake_term = gan.minimax.generator(None, critic)  # log(1 − σ(D))
    value = step * (p * real_term + q * fake_term).sum()
    # The trapezium rule on a Gaussian is exact to rounding at this step.
    np.testing.assert_allclose(value, 2 * jsd - np.log(4), rtol=16 * EPS32)


@pytest.mark.heavy
def test_hinge_at_its_optimal_critic_is_two_minus_twice_the_total_variation():
    p, q = two_distributions()
    critic = np.sign(p - q).astype(np.float32)
    best = expected(gan.hinge.discriminator, p, q, critic)
    np.testing.assert_allclose(best, 2 - np.abs(p - q).sum(), rtol=16 * EPS32)
    # The loss is convex in the critic, so that it is the best if no nearby one is better.
    nearby = critic + np.random.default_rng(6).normal(0, 0.1, (200, len(p))).astype(np.float32)
    others = jax.vmap(lambda other: expected(gan.hinge.discriminator, p, q, other))(nearby)
    assert np.all(others > best)


def test_least_squares_at_its_optimal_critic_gives_pearsons_chi_squared():
    p, q = two_distributions()
    game = gan.least_squares(a=-1.0, b=1.0, c=0.0)
    critic = ((p - q) / (p + q)).astype(np.float32)
    assert_optimal(game.discriminator, p, q, critic)
    # The paper adds the real examples' term, constant in the generator, to what it minimises.
    objective = ((p + q) * game.generator(None, critic)).sum()
    chi_squared = ((2 * q - (p + q)) ** 2 / (p + q)).sum()
    np.testing.assert_allclose(2 * objective, chi_squared, rtol=16 * EPS32)


@pytest.mark.parametrize(("real", "fake"), [(0.9, 0.0), (0.8, 0.1)])
def test_smoothed_labels_move_the_optimal_critic_as_derived(real, fake):
    p, q = two_distributions()
    smoothed = (real * p + fake * q) / (p + q)
    critic = np.log(smoothed) - np.log1p(-smoothed)
    assert_optimal(gan.label_smoothing(real, fake).discriminator, p, q, critic)


def test_labels_of_one_and_zero_are_without_smoothing():
    real, fake = logits()
    plain, smoothed = gan.non_saturating, gan.label_smoothing(1.0, 0.0)
    np.testing.assert_array_equal(
        smoothed.discriminator(real, fake), plain.discriminator(real, fake)
    )


def test_the_best_unit_linear_wasserstein_critic_reaches_the_shift_of_gaussians():
    rng = np.random.default_rng(7)
    shift = rng.normal(size=5).astype(np.float32)
    x = rng.normal(size=(64, 5)).astype(np.float32)

    def loss(direction):
        unit = direction / jnp.linalg.norm(direction)
        return gan.wasserstein.discriminator(x @ unit, (x + shift) @ unit).mean()

    descend = jax.jit(lambda d: d - jax.grad(loss)(d))
    direction = jnp.asarray(rng.normal(size=5), jnp.float32)
    assert loss(direction) > -0.9 * np.linalg.norm(shift)
    for _ in range(100):
        direction = descend(direction)
    # W₁ of two Gaussians that differ by a shift is its length; outputs are of order 1.
    np.testing.assert_allclose(-loss(direction), np.linalg.norm(shift), rtol=1e-5)


# Differences between the games


def test_non_saturating_generator_has_a_gradient_where_minimax_vanishes():
    rejected = jnp.array([-20.0, -1e4])
    minimax = jax.grad(lambda fake: gan.minimax.generator(None, fake).sum())(rejected)
    unsaturated = jax.grad(lambda fake: gan.non_saturating.generator(None, fake).sum())(rejected)
    np.testing.assert_allclose(minimax, -expit(np.array([-20.0, -1e4])), rtol=8 * EPS32)
    np.testing.assert_allclose(unsaturated, -1, rtol=8 * EPS32)


@pytest.mark.parametrize("name", COUPLED)
def test_relativistic_losses_ignore_a_constant_added_to_the_critic(name):
    # Multiples of 1/8 added to a power of two are exact, and so are means over 16 of them.
    real, fake = np.random.default_rng(8).integers(-16, 16, (2, 16)).astype(np.float32) / 8
    game, constant = COUPLED[name], 512
    for loss in (game.discriminator, game.generator):
        moved = loss(real + constant, fake + constant)
        np.testing.assert_array_equal(moved, loss(real, fake))
    plain = gan.non_saturating.discriminator
    assert np.abs(plain(real + constant, fake + constant) - plain(real, fake)).min() > 1


def test_pairing_couples_equal_indices_only():
    real, fake = np.random.default_rng(9).normal(size=(2, 8)).astype(np.float32)
    jacobian = jax.jacobian(gan.relativistic_pairing.discriminator, argnums=1)(real, fake)
    np.testing.assert_array_equal(jacobian, np.diag(np.diag(jacobian)))
    assert np.all(np.diag(jacobian) > 0)


# Transforms and types


def spread(x):
    return x.reshape(jax.device_count(), -1)


@pytest.mark.parametrize("name", GAMES)
def test_jit_vmap_and_bfloat16_agree_with_the_plain_loss(name):
    game = GAMES[name]
    real, fake = np.random.default_rng(10).normal(0, 3, (2, 4, 16)).astype(np.float32)
    for loss in (game.discriminator, game.generator):
        plain = np.stack([loss(r, f) for r, f in zip(real, fake, strict=True)])
        assert plain.shape == real.shape
        np.testing.assert_allclose(jax.jit(jax.vmap(loss))(real, fake), plain, rtol=1e-5, atol=1e-6)

        half_real, half_fake = real[0].astype(jnp.bfloat16), fake[0].astype(jnp.bfloat16)
        half = loss(half_real, half_fake)
        assert half.dtype == jnp.float32
        np.testing.assert_array_equal(
            half, loss(half_real.astype(np.float32), half_fake.astype(np.float32))
        )


@pytest.mark.heavy
def test_losses_on_eight_devices_equal_those_on_one():
    real, fake = np.random.default_rng(11).normal(size=(2, 32)).astype(np.float32)
    everywhere = {n: g for n, g in GAMES.items() if n != "relativistic_average"} | {
        "relativistic_average": gan.relativistic_average(axis_name="devices")
    }

    def losses(games, real, fake):
        return {n: (g.discriminator(real, fake), g.generator(real, fake)) for n, g in games.items()}

    mapped = jax.pmap(lambda r, f: losses(everywhere, r, f), "devices")(spread(real), spread(fake))
    for name, plain in losses(GAMES, real, fake).items():
        for ours, theirs in zip(mapped[name], plain, strict=True):
            np.testing.assert_allclose(ours.ravel(), theirs, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.heavy
def test_relativistic_average_over_devices_has_the_gradient_of_one_device():
    rng = np.random.default_rng(12)
    real, fake = rng.normal(size=(2, 32, 3)).astype(np.float32)
    weights = rng.normal(size=3).astype(np.float32)

    def gradient(weights, real, fake, axis_name=None):
        game = gan.relativistic_average(axis_name=axis_name)

        # Squared, so that the slope of an example depends on the batch's mean.
        def loss(weights):
            return jnp.square(game.discriminator(real @ weights, fake @ weights)).mean()

        slope = jax.grad(loss)(weights)
        return slope if axis_name is None else jax.lax.pmean(slope, axis_name)

    split = [x.reshape(jax.device_count(), -1, 3) for x in (real, fake)]

    def mapped(axis_name):
        step = jax.pmap(
            lambda w, r, f: gradient(w, r, f, axis_name) if axis_name else gradient(w, r, f),
            "devices",
            in_axes=(None, 0, 0),
        )
        return step(weights, *split).mean(0)

    one = gradient(weights, real, fake)
    np.testing.assert_allclose(mapped("devices"), one, rtol=1e-5)
    assert np.abs(mapped(None) - one).max() > 1e-2 * np.abs(one).max()


# Feature matching


@pytest.mark.heavy
def test_feature_matching_is_the_squared_distance_of_mean_features_with_its_gradient():
    real, fake = np.random.default_rng(13).normal(size=(2, 16, 3, 5)).astype(np.float32)
    gap = real.mean(0, dtype=float) - fake.mean(0, dtype=float)
    value, slope = jax.value_and_grad(gan.feature_matching, argnums=1)(real, fake)
    np.testing.assert_allclose(value, (gap**2).sum(), rtol=16 * EPS32)
    np.testing.assert_allclose(slope[5], -2 * gap / len(fake), rtol=1e-5, atol=1e-7)
    assert gan.feature_matching(real, real[::-1]) < EPS32


def test_feature_matching_averages_bfloat16_features_in_float32():
    real, fake = (
        jnp.asarray(x, jnp.bfloat16) for x in np.random.default_rng(15).normal(size=(2, 64, 5))
    )
    wide = gan.feature_matching(real.astype(jnp.float32), fake.astype(jnp.float32))
    ours = gan.feature_matching(real, fake)
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, wide)


def test_feature_matching_over_devices_equals_one_device():
    real, fake = np.random.default_rng(14).normal(size=(2, 16, 5)).astype(np.float32)
    mapped = jax.pmap(lambda r, f: gan.feature_matching(r, f, axis_name="i"), "i")
    split = [x.reshape(jax.device_count(), -1, 5) for x in (real, fake)]
    one = gan.feature_matching(real, fake)
    np.testing.assert_allclose(mapped(*split), np.full(jax.device_count(), one), rtol=1e-5)


# The adaptive weight


def pulls(a, b, axis_name="data"):
    """Two losses of the last layer w, whose gradients are the means of a and of b."""
    w = {"kernel": jnp.array([0.3, -2.0, 5.0])}
    losses = [lambda w, x=x: (jnp.asarray(x) * w["kernel"][None]).sum(1) for x in (a, b)]
    return gan.adaptive_weight(*losses, w, axis_name=axis_name)


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_norms():
    a, b = np.random.default_rng(3).normal(size=(2, 16, 3)).astype(np.float32)
    norms = [np.linalg.norm(x.mean(0, dtype=float)) for x in (a, b)]
    np.testing.assert_allclose(pulls(a, b), norms[0] / (norms[1] + 1e-4), rtol=1e-5)
    assert pulls(a, 0 * b) == pytest.approx(norms[0] / 1e-4, rel=1e-5)
    assert pulls(1e9 * a, b) == 1e4  # at most


@pytest.mark.heavy
def test_no_gradient_flows_through_the_adaptive_weight():
    a, b = np.random.default_rng(4).normal(size=(2, 16, 3)).astype(np.float32)
    slope = jax.grad(lambda a: pulls(a, b))(jnp.asarray(a))
    assert (np.asarray(slope) == 0).all()


def test_the_adaptive_weight_over_devices_equals_one_device():
    a, b = np.random.default_rng(5).normal(size=(2, 16, 3)).astype(np.float32)
    split = [x.reshape(jax.device_count(), -1, 3) for x in (a, b)]
    mapped = jax.pmap(lambda a, b: pulls(a, b, "i"), "i")(*split)
    np.testing.assert_allclose(mapped, np.full(jax.device_count(), pulls(a, b)), rtol=1e-5)


# Bad input


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize(("real", "fake"), [((4,), (3,)), ((4, 1), (4,)), ((4, 1), (4, 1))])
def test_outputs_of_unequal_or_wrong_shape_raise_naming_both(name, real, fake):
    for loss in (GAMES[name].discriminator, GAMES[name].generator):
        with pytest.raises(ValueError, match="critic outputs") as error:
            loss(jnp.zeros(real), jnp.zeros(fake))
        assert str(real) in str(error.value)
        assert str(fake) in str(error.value)


@pytest.mark.parametrize("name", COUPLED)
def test_a_relativistic_generator_without_real_outputs_raises(name):
    with pytest.raises(ValueError, match="real examples"):
        COUPLED[name].generator(None, jnp.zeros(4))


def test_features_of_unequal_shape_raise_naming_both():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(5, 3\)"):
        gan.feature_matching(jnp.zeros((4, 3)), jnp.zeros((5, 3)))


@pytest.mark.parametrize(("real", "fake"), [(1.1, 0.0), (0.9, -0.1)])
def test_labels_outside_the_unit_interval_raise(real, fake):
    with pytest.raises(ValueError, match="labels"):
        gan.label_smoothing(real, fake)


# Which samples a generator learns from, and classes


@pytest.mark.heavy
def test_top_k_weighs_the_best_samples_alone_and_keeps_the_mean():
    fake = jnp.array([0.3, -1.0, 2.0, 0.3, 5.0, -4.0])
    for k, kept in [(1, [4]), (2, [2, 4]), (3, [0, 2, 4]), (4, [0, 2, 3, 4]), (6, range(6))]:
        weights = gan.top_k(fake, k)
        expected = np.zeros(6)
        expected[list(kept)] = 6 / k
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
        loss = gan.non_saturating.generator(None, fake)
        assert (weights * loss).mean() == pytest.approx(float(loss[jnp.array(kept)].mean()))
    np.testing.assert_array_equal(gan.top_k(fake, 0), gan.top_k(fake, 1))
    np.testing.assert_array_equal(gan.top_k(fake, 99), np.ones(6))
    np.testing.assert_array_equal(jax.jit(gan.top_k)(fake, 2), gan.top_k(fake, 2))
    assert not jax.grad(lambda x: gan.top_k(x, 2) @ jnp.arange(6.0))(fake).any()
    with pytest.raises(ValueError, match=r"must be \[B\], got \(6, 1\)"):
        gan.top_k(fake[:, None], 2)


@pytest.mark.heavy
def test_auxiliary_classifier_is_the_cross_entropy_least_at_the_true_posterior():
    logits = jnp.array([[2.0, -1.0, 0.5], [1e4, 0.0, -1e4]])
    found = gan.auxiliary_classifier(logits, jnp.array([2, 1]))
    log_p = np.asarray(logits, np.float64)
    log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
    np.testing.assert_allclose(found, [-log_p[0, 2], -log_p[1, 1]], rtol=1e-6)
    # Three examples of one kind, two of class 1: the best logits say so, and cost its entropy.
    labels, share = jnp.array([1, 0, 1]), jnp.array([1 / 3, 2 / 3])

    def loss(row):
        return gan.auxiliary_classifier(jnp.broadcast_to(row, (3, 2)), labels).mean()

    np.testing.assert_allclose(jax.grad(loss)(jnp.log(share)), 0, atol=1e-6)
    assert loss(jnp.log(share)) == pytest.approx(-float(share @ jnp.log(share)), rel=1e-6)
    np.testing.assert_array_equal(
        np.isnan(gan.auxiliary_classifier(jnp.zeros((3, 2)), jnp.array([-1, 2, 1]))),
        [True, True, False],
    )
    for wrong in (jnp.array([0.0, 1.0]), jnp.array([1])):
        with pytest.raises(ValueError, match=r"give logits \[B, K\] and integer labels"):
            gan.auxiliary_classifier(jnp.zeros((2, 3)), wrong)
