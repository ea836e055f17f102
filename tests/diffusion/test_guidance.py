"""Guidance on Gaussians, where the guided distribution is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import guidance, predictions, samplers, schedules, steps

pytestmark = pytest.mark.heavy

SCHEDULE = schedules.VP()
TARGETS = {
    "data": predictions.data,
    "noise": predictions.noise,
    "velocity": predictions.velocity,
    "score": predictions.score,
    "flow": predictions.flow,
    "edm": predictions.edm,
}


def gaussian(mean, variance, target=predictions.data, schedule=SCHEDULE):
    """The ideal prediction for x ~ N(mean, variance)."""

    def predict(z, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        a, s = alpha[:, None], sigma[:, None]
        gap = (z - a * mean) / (a**2 * variance + s**2)
        return target.of(mean + a * variance * gap, s * gap, alpha, sigma)

    return predict


@pytest.fixture(scope="module")
def states():
    z = jax.random.normal(jax.random.key(0), (6, 4))
    return z, jnp.linspace(0.05, 0.95, 6)


def test_scale_1_is_conditional_and_0_unconditional(states):
    conditional, unconditional = gaussian(1.0, 0.2), gaussian(-0.5, 0.6)
    for scale, expected in [(1.0, conditional), (0.0, unconditional)]:
        guided = guidance.classifier_free(conditional, unconditional, scale)(*states)
        np.testing.assert_allclose(guided, expected(*states), atol=1e-6)
    scales = jnp.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    mixed = guidance.classifier_free(conditional, unconditional, scales)(*states)
    np.testing.assert_allclose(mixed[1::2], conditional(*states)[1::2], atol=1e-6)
    np.testing.assert_allclose(mixed[::2], unconditional(*states)[::2], atol=1e-6)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_guiding_any_prediction_guides_the_data(states, target):
    z, t = states
    pair = [gaussian(1.0, 0.2, target), gaussian(-0.5, 0.6, target)]
    data_pair = [gaussian(1.0, 0.2), gaussian(-0.5, 0.6)]
    guided = guidance.classifier_free(*pair, 3.0)(z, t)
    data = target.to_data(guided, z, SCHEDULE.alpha(t), SCHEDULE.sigma(t))
    expected = guidance.classifier_free(*data_pair, 3.0)(z, t)
    # Division by α(.95) = .01 leaves 1e-7/.01 of three predictions.
    np.testing.assert_allclose(data, expected, atol=1e-3)


def sample(predict, start, schedule):
    return jax.jit(
        lambda start: samplers.heun(
            predict,
            None,
            start.shape,
            schedule=schedule,
            target=predictions.data,
            steps=steps.linear_log_snr(100, schedule=schedule),
            start=start,
        )
    )(start)


def test_guidance_between_means_extrapolates_the_mean():
    # One variance, two means: the guided score is that of a Gaussian at scale μ + (1 − scale) μ'.
    schedule, scale = schedules.RectifiedFlow(), 3.0
    pair = [gaussian(mean, 0.2, schedule=schedule) for mean in (1.0, -0.5)]
    start = jnp.linspace(-2.0, 2.0, 5)[:, None]
    x = sample(guidance.classifier_free(*pair, scale), start, schedule)
    expected = scale * 1.0 + (1 - scale) * -0.5 + np.sqrt(0.2) * start
    np.testing.assert_allclose(x, expected, atol=5e-3)


def test_guidance_between_variances_sharpens_to_their_geometric_extrapolation():
    # With α = 1: d log z/dσ = σ (s/(v + σ²) + (1 − s)/(v' + σ²)), hence from σ = ∞ to 0 the
    # variance becomes v^s v'^(1−s): below the conditional v where v < v'.
    schedule, scale = schedules.EDM(sigma_max=500.0), 2.0
    pair = [gaussian(0.0, variance, schedule=schedule) for variance in (0.3, 0.9)]
    start = 500 * jnp.linspace(-2.0, 2.0, 5)[:, None]
    x = sample(guidance.classifier_free(*pair, scale), start, schedule)
    np.testing.assert_allclose(x, start / 500 * np.sqrt(0.3**scale * 0.9 ** (1 - scale)), atol=5e-3)


def test_outside_the_interval_the_prediction_is_conditional(states):
    z, t = states
    conditional, unconditional = gaussian(1.0, 0.2), gaussian(-0.5, 0.6)
    guided = guidance.classifier_free(
        conditional, unconditional, 3.0, interval=(float(t[1]), float(t[3]))
    )(z, t)
    everywhere = guidance.classifier_free(conditional, unconditional, 3.0)(z, t)
    inside = np.array([False, False, True, True, False, False])
    np.testing.assert_array_equal(guided[~inside], conditional(z, t)[~inside])
    np.testing.assert_allclose(guided[inside], everywhere[inside], rtol=1e-6)


def test_outside_the_interval_the_unconditional_network_is_not_run():
    calls = []

    def unconditional(z, t):
        jax.debug.callback(lambda t: calls.append(float(t)), t[0])
        return jnp.zeros_like(z)

    predict = guidance.classifier_free(gaussian(1.0, 0.2), unconditional, 2.0, interval=(0.3, 0.8))
    jax.block_until_ready(
        samplers.ddim(
            predict,
            jax.random.key(0),
            (2, 3),
            schedule=SCHEDULE,
            target=predictions.data,
            steps=jnp.array([1.0, 0.75, 0.5, 0.25, 0.0]),
        )
    )
    jax.effects_barrier()
    assert sorted(calls) == [0.5, 0.75]


@pytest.mark.parametrize("rescale", [0.7, 1.0])
def test_rescaling_gives_each_example_the_deviation_of_the_conditional(states, rescale):
    conditional, unconditional = gaussian(1.0, 0.2), gaussian(-0.5, 0.6)
    guided = guidance.classifier_free(conditional, unconditional, 5.0, rescale=rescale)(*states)
    # Lin et al. 2024, eqs. 14 to 16.
    positive, negative = (np.asarray(f(*states), float) for f in (conditional, unconditional))
    plain = negative + 5 * (positive - negative)
    scaled = plain * positive.std(1, keepdims=True) / plain.std(1, keepdims=True)
    np.testing.assert_allclose(guided, rescale * scaled + (1 - rescale) * plain, rtol=1e-4)


def test_rescaling_a_constant_is_finite_and_dtype_and_variance_pass_through():
    z, t = jnp.ones((2, 3), jnp.bfloat16), jnp.full(2, 0.5)
    predict = guidance.classifier_free(
        lambda z, t: (z, "variance"), lambda z, t: (0 * z, None), jnp.array([2.0, 3.0]), rescale=0.5
    )
    guided, variance = predict(z, t)
    assert variance == "variance"
    assert guided.dtype == jnp.bfloat16
    # Both deviations are 0: only the unscaled half of each guided value remains.
    np.testing.assert_allclose(guided.astype(float), [[1.0] * 3, [1.5] * 3])


def test_autoguidance_extrapolates_from_the_weak_model(states):
    strong, weak = gaussian(1.0, 0.2), gaussian(0.6, 0.5)
    guided = guidance.autoguidance(strong, weak, 2.5)(*states)
    expected = 2.5 * strong(*states) - 1.5 * weak(*states)
    np.testing.assert_allclose(guided, expected, atol=1e-6)
    outside = guidance.autoguidance(strong, weak, 2.5, interval=(0.97, 1.0))(*states)
    np.testing.assert_array_equal(outside, strong(*states))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_classifier_guidance_at_scale_1_samples_the_posterior(states, target):
    # x ~ N(0, v), y | x ~ N(x, w): p(y|z) and the posterior of x are Gaussian.
    z, t = states
    v, w, y = 0.6, 0.3, 0.8

    def log_prob(z, t):
        alpha, sigma = SCHEDULE.alpha(t)[:, None], SCHEDULE.sigma(t)[:, None]
        total = alpha**2 * v + sigma**2
        mean, variance = alpha * v / total * z, v * sigma**2 / total + w
        return -jnp.sum((y - mean) ** 2 / (2 * variance), axis=1)

    guided = guidance.classifier(
        gaussian(0.0, v, target), log_prob, 1.0, schedule=SCHEDULE, target=target
    )(z, t)
    posterior = 1 / (1 / v + 1 / w)
    expected = gaussian(posterior * y / w, posterior, target)(z, t)
    np.testing.assert_allclose(guided, expected, rtol=1e-3, atol=1e-4)


def test_classifier_guidance_vanishes_without_signal():
    schedule = schedules.RectifiedFlow()
    guided = guidance.classifier(
        lambda z, t: z, lambda z, t: z.sum(1), 2.0, schedule=schedule, target=predictions.flow
    )
    z = jnp.array([[1.0, -2.0], [1.0, -2.0]])
    one, other = guided(z, jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(one, z[0], atol=1e-6)
    # ε̂ − s σ g − (x̂ + s σ²/α g) with α = σ = 1/2, s = 2, g = 1.
    np.testing.assert_allclose(other, z[0] - 2, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_projected_guidance_drops_the_part_along_the_data(states, target):
    z, t = states
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    pair = [gaussian(1.0, 0.2, target), gaussian(-0.5, 0.6, target)]

    def guided(**options):
        predict = guidance.projected(*pair, 3.0, schedule=SCHEDULE, target=target, **options)
        prediction = predict(z, t)
        data = target.to_data(prediction, z, alpha, sigma)
        noise = target.to_noise(prediction, z, alpha, sigma)
        # Both of one prediction: z = α x̂ + σ ε̂. Division by α(.95) = .01 as above.
        total = alpha[:, None] * data + sigma[:, None] * noise
        np.testing.assert_allclose(total, z, atol=1e-3)
        return np.asarray(data, float)

    conditional = np.asarray(gaussian(1.0, 0.2)(z, t), float)
    full = guidance.classifier_free(gaussian(1.0, 0.2), gaussian(-0.5, 0.6), 3.0)(z, t)
    np.testing.assert_allclose(guided(parallel=1.0), full, atol=1e-3)

    change = guided() - conditional
    along = (change * conditional).sum(1) / np.linalg.norm(conditional, axis=1)
    np.testing.assert_allclose(along, 0, atol=2e-3)
    rest = full - conditional
    rest = rest - (rest * conditional).sum(1, keepdims=True) * conditional / (conditional**2).sum(
        1, keepdims=True
    )
    np.testing.assert_allclose(change, rest, atol=2e-3)
    # Twice the difference of norm 0.1 at most.
    short = guided(parallel=1.0, norm=0.1) - conditional
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 0.2, atol=2e-3)


def test_projected_guidance_vanishes_without_signal_and_keeps_the_dtype():
    guided = guidance.projected(
        lambda z, t: z, lambda z, t: 0 * z, 2.0, schedule=schedules.RectifiedFlow(),
        target=predictions.noise,
    )  # fmt: skip
    z = jnp.array([[1.0, -2.0], [1.0, -2.0]], jnp.bfloat16)
    out = guided(z, jnp.array([1.0, 0.5]))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out[0], z[0])
    assert bool(jnp.isfinite(out).all())


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 2, 3)])
def test_project_of_zeros_and_of_parallel_differences(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    np.testing.assert_array_equal(guidance.project(0 * x, x, norm=1.0), 0)
    np.testing.assert_array_equal(guidance.project(x, 0 * x), x)
    np.testing.assert_allclose(guidance.project(2 * x, x), 0, atol=1e-6)
    np.testing.assert_allclose(guidance.project(2 * x, x, 0.5), x, atol=1e-6)


def test_predictions_of_different_shapes_raise():
    predict = guidance.classifier_free(lambda z, t: z, lambda z, t: z[:, :1], 2.0)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 1\)"):
        predict(jnp.ones((2, 3)), jnp.ones(2))


def test_labels_are_dropped_at_the_given_rate_each_by_its_own_key():
    label = jnp.arange(4000) % 10
    keys = jax.random.split(jax.random.key(0), len(label))
    dropped = guidance.drop_labels(label, keys, classes=10, probability=0.25)
    assert jnp.all((dropped == label) | (dropped == 10))
    # Four standard deviations of a mean of 4,000.
    assert abs(jnp.mean(dropped == 10) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    turned = guidance.drop_labels(label[::-1], keys[::-1], classes=10, probability=0.25)
    np.testing.assert_array_equal(turned[::-1], dropped)
    unchanged = guidance.drop_labels(label, keys, classes=10, probability=0.0)
    np.testing.assert_array_equal(unchanged, label)
