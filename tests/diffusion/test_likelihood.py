"""The ODE likelihood against densities known in closed form."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.diffusion import likelihood, predictions, samplers, schedules, steps

MEAN = np.array([0.5, -0.2, 0.1])
FACTOR = np.array([[0.6, 0.0, 0.0], [0.3, 0.4, 0.0], [-0.2, 0.1, 0.8]])
COVARIANCE = FACTOR @ FACTOR.T
PURE = schedules.Cosine(log_snr_max=math.inf, log_snr_min=-math.inf)


def correlated(schedule, target=predictions.data):
    """The ideal prediction for x ~ N(MEAN, COVARIANCE), with NaN where σ = 0."""

    def predict(z, t):
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        total = alpha**2 * COVARIANCE + sigma**2 * np.eye(3)
        gap = jnp.linalg.solve(total, (z - alpha * MEAN[None]).T).T
        data = MEAN[None] + alpha * gap @ COVARIANCE
        prediction = target.of(data, sigma * gap, alpha, sigma)
        return jnp.where(sigma > 0, prediction, jnp.nan).astype(z.dtype)

    return predict


def evaluate(schedule, x, target=predictions.data, n=64, grid=None, **options):
    return jax.jit(
        lambda x: likelihood.log_likelihood(
            correlated(schedule, target),
            x,
            schedule=schedule,
            target=target,
            steps=steps.linear(n) if grid is None else grid,
            **options,
        )
    )(x)


@pytest.fixture(scope="module")
def points():
    noise = np.random.default_rng(0).standard_normal((5, 3))
    return jnp.asarray(MEAN + noise @ FACTOR.T, jnp.float32)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("schedule", "target"),
    [
        (PURE, predictions.velocity),
        (schedules.RectifiedFlow(), predictions.flow),
        (schedules.VP(), predictions.noise),
        (schedules.EDM(sigma_max=300.0), predictions.edm),
        (schedules.VE(sigma_max=300.0), predictions.score),
    ],
    ids=["cosine", "flow", "vp", "edm", "ve"],
)
def test_log_likelihood_is_the_gaussian_density(points, schedule, target):
    result = evaluate(schedule, points, target, grid=steps.linear_log_snr(64, schedule=schedule))
    expected = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(points)
    # VP, EDM and VE start from N(0, σ²), not from N(αμ, α²Σ + σ²): α/σ <= 1/150 of z. EDM and VE
    # take x as z at their σ(0) <= .01.
    np.testing.assert_allclose(result.log_prob, expected, atol=0.03)


@pytest.mark.heavy
def test_log_likelihood_converges_at_fourth_order_in_float64():
    with jax.enable_x64(True):
        x = jnp.asarray(MEAN + np.random.default_rng(1).standard_normal((16, 3)) @ FACTOR.T)
        expected = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(x)
        errors = []
        for n in (16, 32):
            errors.append(np.square(evaluate(PURE, x, n=n).log_prob - expected).mean() ** 0.5)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)
    assert errors[1] < 1e-4


def test_log_likelihood_between_two_noisy_times_is_that_of_the_gaussian_flow(points):
    # α² + σ² is neither 1 at the first time nor at the last, as a rectified flow leaves the circle.
    schedule, start, end = schedules.RectifiedFlow(), 0.3, 0.8
    x = (1 - start) * points
    grid = steps.linear(32, end, start)
    result = evaluate(schedule, x, predictions.flow, grid=grid)
    # The covariances of all times commute: the flow scales each eigenvector's share by the ratio
    # of the deviations along it.
    values, vectors = np.linalg.eigh(COVARIANCE)
    before, after = ((1 - t) ** 2 * values + t**2 for t in (start, end))
    gap = (np.asarray(x) - (1 - start) * MEAN) @ vectors
    latent = (1 - end) * MEAN + (gap * np.sqrt(after / before)) @ vectors.T
    np.testing.assert_allclose(result.latent, latent, atol=1e-3)
    expected = stats.norm.logpdf(latent, 0, end).sum(1) + 0.5 * np.log(after / before).sum()
    np.testing.assert_allclose(result.log_prob, expected, atol=5e-3)


def test_log_likelihood_is_the_density_of_a_mixture():
    weights, means, std = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), 0.3
    schedule = schedules.RectifiedFlow()

    def predict(z, t):
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        total = alpha**2 * std**2 + sigma**2
        logs = [
            np.log(w) - (z - alpha * m) ** 2 / (2 * total)
            for w, m in zip(weights, means, strict=True)
        ]
        data = [m + alpha * std**2 / total * (z - alpha * m) for m in means]
        share = jax.nn.sigmoid(logs[0] - logs[1])
        return share * data[0] + (1 - share) * data[1]

    x = np.linspace(-2, 2, 21)[:, None]
    result = jax.jit(
        lambda x: likelihood.log_likelihood(
            predict, x, schedule=schedule, target=predictions.data, steps=steps.linear(64)
        )
    )(x.astype(np.float32))
    expected = np.log((weights * stats.norm.pdf(x, means, std)).sum(1))
    np.testing.assert_allclose(result.log_prob, expected, atol=2e-3)


@pytest.mark.heavy
def test_hutchinson_is_unbiased_and_keyed_by_example(points):
    keys = jax.random.split(jax.random.key(1), 512)
    target = predictions.velocity

    @jax.jit
    def estimate(keys):
        return jax.vmap(
            lambda key: (
                likelihood.log_likelihood(
                    correlated(PURE, target),
                    points[:2],
                    schedule=PURE,
                    target=target,
                    steps=steps.linear(12),
                    key=key,
                ).log_prob
            )
        )(keys)

    estimates = estimate(keys)
    exact = evaluate(PURE, points[:2], target, n=12).log_prob
    error = estimates.std(0) / np.sqrt(512)
    assert bool((estimates.std(0) > 0.01).all())
    # Four standard errors: a chance of 1e-4.
    np.testing.assert_array_less(jnp.abs(estimates.mean(0) - exact), 4 * error)


@pytest.mark.heavy
def test_hutchinson_is_exact_for_a_diagonal_jacobian_and_takes_one_key_per_example():
    schedule, x = schedules.RectifiedFlow(), jax.random.normal(jax.random.key(2), (4, 2, 2, 1))

    def predict(z, t):
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        return alpha * 0.5 / (alpha**2 * 0.5 + sigma**2) * z

    def run(key):
        return likelihood.log_likelihood(
            predict, x, schedule=schedule, target=predictions.data, steps=steps.linear(12), key=key
        )

    keys = jax.random.split(jax.random.key(3), 4)
    raw = jax.random.key_data(keys)
    one, two, three, exact = jax.jit(lambda: (run(keys[0]), run(keys), run(raw), run(None)))()
    for estimate in (one, two, three):
        np.testing.assert_allclose(estimate.log_prob, exact.log_prob, rtol=1e-4)
    expected = stats.norm.logpdf(x, 0, np.sqrt(0.5)).sum((1, 2, 3))
    np.testing.assert_allclose(exact.log_prob, expected, atol=1e-2)
    with pytest.raises(ValueError, match="2 keys"):
        run(keys[:2])


@pytest.mark.heavy
def test_the_probe_of_an_example_depends_on_its_key_alone(points):
    keys = jax.random.split(jax.random.key(4), 5)
    run = functools.partial(evaluate, PURE, target=predictions.velocity, n=6)
    one = run(points, key=keys).log_prob
    other = run(points, key=jax.random.split(jax.random.key(5), 5).at[2].set(keys[2])).log_prob
    np.testing.assert_allclose(one[2], other[2], rtol=1e-6)
    assert jnp.abs(one - other).max() > 1e-3


def test_sampling_from_the_latent_recovers_x(points):
    target = predictions.velocity
    latent = evaluate(PURE, points, target).latent
    expected = np.linalg.solve(np.linalg.cholesky(COVARIANCE), (np.asarray(points) - MEAN).T).T
    # The flow of a Gaussian is symmetric: Σ^(−1/2) (x − μ), which has the norm of any whitening.
    np.testing.assert_allclose(
        jnp.linalg.norm(latent, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-3
    )
    back = jax.jit(
        lambda start: samplers.heun(
            correlated(PURE, target),
            None,
            start.shape,
            schedule=PURE,
            target=target,
            steps=steps.linear(200),
            start=start,
        )
    )(latent)
    np.testing.assert_allclose(back, points, atol=2e-3)


@pytest.mark.heavy
def test_pmap_and_bfloat16(points):
    x = jnp.concatenate([points, points[:3]])
    target = predictions.velocity

    def log_prob(x):
        return likelihood.log_likelihood(
            correlated(PURE, target), x, schedule=PURE, target=target, steps=steps.linear(8)
        )

    split = jax.pmap(log_prob)(x.reshape(8, 1, 3))
    full = jax.jit(log_prob)(x)
    np.testing.assert_allclose(split.log_prob.reshape(8), full.log_prob, rtol=1e-4)
    coarse = jax.jit(log_prob)(x.astype(jnp.bfloat16))
    assert (coarse.latent.dtype, coarse.log_prob.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(coarse.log_prob, full.log_prob, atol=0.3)


@pytest.mark.heavy
def test_rk4_is_of_fourth_order_on_trees_in_both_directions():
    def f(time, state):
        return {"a": state["a"] * time, "b": -state["b"] + time}

    def exact(time):
        return {"a": jnp.exp(time**2 / 2), "b": time - 1 + jnp.exp(-time)}

    with jax.enable_x64(True):
        errors = []
        for n in (16, 32):
            times = jnp.linspace(0.0, 2.0, n + 1)
            gaps = [
                jnp.abs(likelihood.rk4(f, exact(way[0]), way)[part] - exact(way[-1])[part])
                for way in (times, times[::-1])
                for part in ("a", "b")
            ]
            errors.append(np.array(gaps))
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), 4, atol=0.5)


def test_the_network_is_traced_once(points):
    calls = []

    def predict(z, t):
        calls.append(t.shape)
        return z

    jax.eval_shape(
        lambda x: likelihood.log_likelihood(
            predict, x, schedule=PURE, target=predictions.data, steps=steps.linear(9)
        ),
        points,
    )
    assert calls == [(5,)]


def test_a_prediction_of_another_shape_raises(points):
    with pytest.raises(ValueError, match=r"\(5, 1\).*\(5, 3\)"):
        likelihood.log_likelihood(
            lambda z, t: z[:, :1],
            points,
            schedule=PURE,
            target=predictions.data,
            steps=steps.linear(4),
        )


@pytest.mark.heavy
def test_log_likelihood_matches_diffrax_with_adaptive_steps(points):
    diffrax = pytest.importorskip("diffrax")

    def odeint(f, state, times):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: f(t, y)),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            None,
            state,
            stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5),
        )
        return jax.tree.map(lambda a: a[0], solution.ys)

    result = evaluate(PURE, points, predictions.velocity, n=1, odeint=odeint)
    expected = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(points)
    np.testing.assert_allclose(result.log_prob, expected, atol=1e-3)
