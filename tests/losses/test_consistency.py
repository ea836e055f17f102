"""Consistency losses on a Gaussian's known flow, their time pairs, distances and curriculum."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax.diffusion import predictions, schedules
from genjax.losses import consistency

pytestmark = pytest.mark.heavy

SCHEDULE, STD = schedules.EDM(), 0.6


def ideal(z, t):
    """E[x | z] for x ~ N(0, STD²)."""
    variance = SCHEDULE.sigma(t)[:, None] ** 2
    return STD**2 / (STD**2 + variance) * z


def exact(z, t):
    """The consistency function: the flow keeps z / √(STD² + σ²) and ends at σ(0)."""
    start = SCHEDULE.sigma(jnp.zeros_like(t))
    ratio = jnp.sqrt((STD**2 + start**2) / (STD**2 + SCHEDULE.sigma(t) ** 2))
    return ratio[:, None] * z


def exact_flow(z, t, s):
    ratio = jnp.sqrt((STD**2 + SCHEDULE.sigma(s) ** 2) / (STD**2 + SCHEDULE.sigma(t) ** 2))
    return ratio[:, None] * z


@pytest.fixture(scope="module")
def x():
    return STD * jax.random.normal(jax.random.key(0), (512, 2))


@pytest.mark.heavy
def test_the_exact_consistency_function_has_zero_loss_and_another_has_not(x):
    arguments = {"schedule": SCHEDULE, "times": consistency.uniform_pairs(18)}
    key = jax.random.key(1)
    loss = consistency.distillation(exact, exact, exact_flow, x, key, **arguments)
    # Values of order one, rounded at 1e-7.
    assert float(loss.max()) < 1e-10
    loss = consistency.distillation(ideal, ideal, exact_flow, x, key, **arguments)
    assert float(loss.mean()) > 1e-4


def test_training_at_the_exact_function_is_at_a_minimum(x):
    # Song et al. 2023, theorem 2: in the limit of close steps training has distillation's gradient.
    s, t = jnp.full(512, 0.49), jnp.full(512, 0.51)
    keys = jax.random.split(jax.random.key(2), 64)

    def gradient(wrong, key):
        def loss(scale):
            return consistency.training(
                lambda z, t: (scale + wrong) * exact(z, t),
                lambda z, t: (1.0 + wrong) * exact(z, t),
                x, key, schedule=SCHEDULE, times=(s, t),
                distance=consistency.squared, weight=consistency.even,
            ).mean()  # fmt: skip

        return jax.grad(loss)(1.0)

    at_exact = np.asarray(jax.jit(jax.vmap(lambda k: gradient(0.0, k)))(keys))
    # d/d scale of E|scale·f(z_t) − f(z_s)|² at 1 in closed form.
    variances = [STD**2 + float(SCHEDULE.sigma(u)) ** 2 for u in (0.49, 0.51)]
    start = STD**2 + float(SCHEDULE.sigma(0.0)) ** 2
    shared = STD**2 + float(SCHEDULE.sigma(0.49) * SCHEDULE.sigma(0.51))
    closed = 2 * 2 * (start - start * shared / math.sqrt(variances[0] * variances[1]))
    # x is the same for all keys and its 1,024 draws have a variance of their own.
    spread = 5 * at_exact.std() / 8 + 5 * closed * math.sqrt(2 / 1024)
    assert abs(at_exact.mean() - closed) < spread
    assert closed < 0.01 * 2 * 2 * start


def test_teacher_and_solver_get_no_gradient(x):
    def loss(scale, of_teacher, of_solver):
        return consistency.distillation(
            lambda z, t: scale * exact(z, t),
            lambda z, t: of_teacher * exact(z, t),
            lambda z, t, s: of_solver * exact_flow(z, t, s),
            x, jax.random.key(0), schedule=SCHEDULE, times=consistency.uniform_pairs(18),
        ).sum()  # fmt: skip

    student, teacher, solver = jax.grad(loss, (0, 1, 2))(1.1, 1.0, 1.0)
    assert teacher == solver == 0
    assert student > 0


def test_training_is_the_formula_of_song_and_dhariwal():
    x, key = jax.random.normal(jax.random.key(0), (4, 3, 2)), jax.random.key(1)
    s, t = jnp.array([0.0, 0.2, 0.5, 0.9]), jnp.array([0.1, 0.3, 0.7, 1.0])
    seen = []

    def network(z, t):
        seen.append(np.float64(z))
        return jnp.tanh(z)

    loss = consistency.training(network, network, x, key, schedule=SCHEDULE, times=(s, t))
    later, earlier = seen
    sigma_s, sigma_t = (np.float64(SCHEDULE.sigma(u))[:, None, None] for u in (s, t))
    clean = np.float64(x)
    # One noise for both.
    np.testing.assert_allclose((later - clean) / sigma_t * sigma_s, earlier - clean, atol=1e-5)
    c = 0.00054 * np.sqrt(6)
    squared = ((np.tanh(later) - np.tanh(earlier)) ** 2).sum((1, 2))
    expected = (np.sqrt(squared + c**2) - c) / (sigma_t - sigma_s)[:, 0, 0]
    np.testing.assert_allclose(loss, expected, rtol=1e-3)


def test_weights_are_even_or_the_inverse_of_the_gap():
    s, t = jnp.array([0.5, 1.0]), jnp.array([0.75, 3.0])
    np.testing.assert_array_equal(consistency.inverse_gap(s, t), [4, 0.5])
    np.testing.assert_array_equal(consistency.even(s, t), [1, 1])


def test_boundary_is_the_identity_at_the_least_noise_and_edm_far_away():
    z = jax.random.normal(jax.random.key(0), (3, 4))
    predict = consistency.boundary(lambda z, t: jnp.sin(5 * z), schedule=SCHEDULE)
    np.testing.assert_array_equal(predict(z, jnp.zeros(3)), z)
    t = jnp.array([0.3, 0.6, 1.0])
    sigma, low, s = np.float64(SCHEDULE.sigma(t))[:, None], 0.002, 0.5
    skip = s**2 / ((sigma - low) ** 2 + s**2)
    out = s * (sigma - low) / np.sqrt(s**2 + sigma**2)
    expected = skip * z + out * np.sin(5 * np.float64(z) / np.sqrt(sigma**2 + s**2))
    np.testing.assert_allclose(predict(z, t), expected, rtol=1e-4, atol=1e-6)


def test_heun_is_of_second_order():
    heun = consistency.heun_step(ideal, schedule=SCHEDULE, target=predictions.data)
    z, start = jnp.ones((1, 1)), 0.6

    def error(steps):
        times = start - jnp.arange(steps + 1) * 0.2 / steps
        value = z
        for t, s in pairwise(times):
            value = step(value, t[None], s[None])
        return abs(float(value[0, 0] - exact_flow(z, times[:1], times[-1:])[0, 0]))

    step = jax.jit(heun)
    assert math.log2(error(2) / error(4)) == pytest.approx(2, abs=0.35)


@pytest.mark.heavy
def test_heun_is_the_same_on_every_schedule():
    # In z/α and σ/α all schedules are one ODE: the same levels give the same step.
    levels = jnp.array([2.0]), jnp.array([1.0])
    results = []
    for schedule in (schedules.EDM(), schedules.VP(), schedules.RectifiedFlow()):
        t, s = (schedule.time(-2 * jnp.log(level)) for level in levels)

        def predict(z, t, schedule=schedule):
            alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
            return alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * z

        solve = consistency.heun_step(predict, schedule=schedule, target=predictions.data)
        alpha_t, alpha_s = schedule.alpha(t)[:, None], schedule.alpha(s)[:, None]
        results.append(float((solve(alpha_t * jnp.ones((1, 1)), t, s) / alpha_s)[0, 0]))
    np.testing.assert_allclose(results, results[0], rtol=1e-4)


@pytest.mark.heavy
def test_pseudo_huber_is_exact_near_zero_and_far_away_with_a_finite_gradient():
    c = 0.00054 * math.sqrt(6)
    for size in (0.0, 1e-12, 1e-6, 1e-3, 1.0, 1e6):
        a, b = jnp.full((1, 3, 2), size), jnp.zeros((1, 3, 2))
        square = 6 * float(np.float32(size)) ** 2
        value = consistency.pseudo_huber(a, b)[0]
        np.testing.assert_allclose(value, square / (math.sqrt(square + c**2) + c), rtol=1e-5)
        gradient = jax.grad(lambda a, b=b: consistency.pseudo_huber(a, b).sum())(a)
        np.testing.assert_allclose(gradient, size / math.sqrt(square + c**2), rtol=1e-5)
    assert consistency.pseudo_huber(a, b, constant=1.0) < consistency.pseudo_huber(a, b)


@pytest.mark.parametrize("keys", ["one key", "a key per example"])
def test_lognormal_pairs_have_the_erf_differences_of_song_and_dhariwal(keys):
    steps, n = 10, 20_000
    key = jax.random.key(3)
    keys = key if keys == "one key" else jax.random.split(key, n)
    s, t = jax.jit(lambda steps: consistency.lognormal_pairs(steps, schedule=SCHEDULE)(keys, n))(
        steps
    )
    levels = np.log(np.float64(SCHEDULE.sigma(np.arange(steps + 1) / steps)))
    mass = np.diff(special.erf((levels + 1.1) / (math.sqrt(2) * 2)))
    counts = np.bincount(np.round(np.asarray(t) * steps).astype(int), minlength=steps + 1)[1:]
    assert stats.chisquare(counts, n * mass / mass.sum()).pvalue > 1e-3
    np.testing.assert_allclose(t - s, 1 / steps, rtol=1e-5)


@pytest.mark.parametrize("keys", ["one key", "a key per example"])
def test_uniform_pairs_are_neighbours(keys):
    key = jax.random.key(3)
    keys = key if keys == "one key" else jax.random.split(key, 4000)
    s, t = consistency.uniform_pairs(5)(keys, 4000)
    np.testing.assert_allclose(t - s, 0.2, rtol=1e-5)
    values, counts = np.unique(np.round(np.asarray(t) * 5), return_counts=True)
    np.testing.assert_array_equal(values, [1, 2, 3, 4, 5])
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("end", [0, 1])
def test_lognormal_pairs_stay_on_the_grid_at_its_ends(end, monkeypatch):
    # One unit in the last place beyond the end, as rounding may have it.
    def truncated_normal(key, low, high, shape):
        return jnp.full(shape, jnp.nextafter(high, jnp.inf) if end else low - 1e-6)

    monkeypatch.setattr(jax.random, "truncated_normal", truncated_normal)
    s, t = consistency.lognormal_pairs(10, schedule=SCHEDULE)(jax.random.key(0), 3)
    np.testing.assert_allclose(s, 0.9 if end else 0.0, rtol=1e-6)
    np.testing.assert_allclose(t, 1.0 if end else 0.1, rtol=1e-6)


def gap_levels(keys, n, gap, **more):
    """σ_s and σ_t, and the exact σ_s of that σ_t by Geng et al.'s code, in float64."""
    pairs = jax.jit(lambda gap: consistency.gap_pairs(gap, schedule=SCHEDULE, **more)(keys, n))
    s, t = (np.float64(SCHEDULE.sigma(u)) for u in pairs(gap))
    share = gap * (1 + more.get("slope", 8) / (1 + np.exp(more.get("sharpness", 1) * t)))
    return s, t, np.maximum(t * (1 - share), SCHEDULE.sigma_min)


@pytest.mark.parametrize("keys", ["one key", "a key per example"])
def test_gap_pairs_are_those_of_geng_et_al(keys):
    n, key = 4000, jax.random.key(3)
    keys = key if keys == "one key" else jax.random.split(key, n)
    ends = (np.log([SCHEDULE.sigma_min, SCHEDULE.sigma_max]) + 1.1) / 2
    for gap, more in ((1 / 32, {}), (0.5, {}), (0.25, {"slope": 2.0, "sharpness": 3.0})):
        s, t, expected = gap_levels(keys, n, gap, **more)
        np.testing.assert_allclose(s, expected, rtol=2e-4)
        assert (s < t).all()
        law = stats.truncnorm(*ends, loc=-1.1, scale=2)
        assert stats.kstest(np.log(t), law.cdf).pvalue > 1e-3
    s, t, _ = gap_levels(keys, n, 0.5)
    # With the first gap the target is the image itself but for great noise.
    clean = np.isclose(s, SCHEDULE.sigma_min)
    assert clean[t < 1].all()
    assert not clean[t > 5].any()


@pytest.mark.parametrize("end", [0, 1])
def test_gap_pairs_stay_apart_at_the_ends_of_the_schedule(end, monkeypatch):
    def truncated_normal(key, low, high, shape):
        return jnp.full(shape, jnp.nextafter(high, jnp.inf) if end else low - 1e-6)

    monkeypatch.setattr(jax.random, "truncated_normal", truncated_normal)
    for gap in (0.5, 1e-9):
        s, t = consistency.gap_pairs(gap, schedule=SCHEDULE)(jax.random.key(0), 3)
        assert (s < t).all()
        assert ((s >= 0) & (t <= 1)).all()
        weight = consistency.inverse_gap(SCHEDULE.sigma(s), SCHEDULE.sigma(t))
        assert jnp.isfinite(weight).all()


def test_halving_is_the_curriculum_of_geng_et_al():
    # Their stage is step // doubling period, the gap 1 / 2 to the power of stage + 1.
    total, period = 200_000, 25_000
    for step in (0, period - 1, period, 3 * period, total - 1, total, 10 * total):
        expected = 0.5 ** (min(step // period, 7) + 1)
        assert float(jax.jit(lambda k: consistency.halving(k, total))(step)) == expected
    found = [float(consistency.halving(k, 6, first=0.25, halvings=2)) for k in range(7)]
    assert found == [0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625]
    assert float(consistency.halving(9, 10, halvings=0)) == 0.5


def test_doubling_is_the_curriculum_of_song_and_dhariwal():
    total, first, last = 400_000, 10, 1280
    period = math.floor(total / (math.log2(last // first) + 1))
    for step in (0, period - 1, period, 3 * period, total - 1, total, 10 * total):
        expected = min(first * 2 ** (step // period), last)
        assert int(jax.jit(lambda k: consistency.doubling(k, total))(step)) == expected


def test_doubling_reaches_an_end_that_is_no_power_of_two_away():
    # log2(100) is 6.6, so that the last doubling is cut at the end.
    found = [int(consistency.doubling(k, 1000, first=10, last=1000)) for k in (0, 780, 909, 910)]
    assert found == [10, 640, 640, 1000]
    # Fewer steps than doublings: one doubling each.
    assert int(consistency.doubling(2, 3)) == 40


def test_square_root_curriculum_and_its_teacher_are_those_of_song_et_al():
    total, s_0, s_1 = 800_000, 2, 150
    steps = np.array([0, 1, 1000, 123_456, total])
    n = np.ceil(np.sqrt(steps / total * ((s_1 + 1) ** 2 - s_0**2) + s_0**2) - 1) + 1
    intervals = jax.jit(lambda k: consistency.square_root(k, total))(steps)
    np.testing.assert_array_equal(intervals, n - 1)
    np.testing.assert_array_equal(intervals[jnp.array([0, -1])], [s_0 - 1, s_1])
    assert consistency.square_root(10 * total, total) == s_1
    steps = np.arange(0, 1001, 50)
    wide = np.ceil(np.sqrt(steps / 1000 * (51**2 - 20**2) + 20**2) - 1)
    found = consistency.square_root(steps, 1000, first=20, last=50)
    np.testing.assert_array_equal(found, wide)
    decay = consistency.teacher_decay(intervals)
    np.testing.assert_allclose(decay, np.exp(s_0 * np.log(0.9) / n), rtol=1e-6)


def test_invalid_arguments_raise_with_one_line(x):
    times = consistency.uniform_pairs(18)
    with pytest.raises(ValueError, match=r"\(512, 2\), got \(512, 1\) and \(512, 2\)"):
        consistency.training(
            lambda z, t: z[:, :1], exact, x, jax.random.key(0), schedule=SCHEDULE, times=times
        )
    with pytest.raises(ValueError, match=r"\(3,\), \(512,\) for x \(512, 2\)"):
        consistency.training(
            exact, exact, x, jax.random.key(0), schedule=SCHEDULE,
            times=(jnp.zeros(3), jnp.ones(512)),
        )  # fmt: skip


@pytest.mark.parametrize("target", [predictions.flow, predictions.velocity, predictions.data])
def test_heun_starts_from_pure_noise(target):
    # dz/dt = z/10 by two slopes: 1 at t = 1, 0.99 at t = 0.9.
    schedule = schedules.RectifiedFlow()

    def predict(z, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        data = predictions.flow.to_data(0.1 * z, z, alpha, sigma)
        return target.of(data, data + 0.1 * z, alpha, sigma)

    solve = consistency.heun_step(predict, schedule=schedule, target=target)
    t, s = jnp.array([1.0, 0.5]), jnp.array([0.9, 0.4])
    found = solve(jnp.ones((2, 2)), t, s)
    np.testing.assert_allclose(found[0], 1 - 0.05 * (0.1 + 0.099), rtol=1e-6)
    # Where there is signal, the step is that in z/α and σ/α: the exact flow to third order.
    np.testing.assert_allclose(found[1], np.exp(-0.01), rtol=1e-3)
    gradient = jax.grad(lambda z: solve(z, t, s).sum())(jnp.ones((2, 2)))
    assert bool(jnp.isfinite(gradient).all())


def test_distillation_over_uniform_pairs_is_finite_on_a_schedule_that_ends_without_signal():
    schedule = schedules.RectifiedFlow()
    solve = consistency.heun_step(lambda z, t: 0.1 * z, schedule=schedule, target=predictions.flow)
    x = jax.random.normal(jax.random.key(0), (64, 2))
    pairs = consistency.uniform_pairs(2)
    assert (pairs(jax.random.split(jax.random.key(1), 2)[0], 64)[1] == 1).any()
    loss = consistency.distillation(
        lambda z, t: z, lambda z, t: z, solve, x, jax.random.key(1), schedule=schedule, times=pairs
    )
    assert bool(jnp.isfinite(loss).all())
