"""Adaptive DPM-Solver: its error follows the tolerance, and each example steps for itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import adaptive, predictions, schedules

pytestmark = pytest.mark.heavy
MEAN, VARIANCE = 0.7, 0.3
VP = schedules.VP()


def denoise(z, alpha, sigma):
    return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (z - alpha * MEAN)


def run(start, schedule=VP, predict=None, **options):
    def ideal(z, t):
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        return denoise(z, alpha, sigma)

    return adaptive.dpm_solver_adaptive(
        predict or ideal,
        None,
        start.shape,
        schedule=schedule,
        target=predictions.data,
        start=start,
        **options,
    )


@pytest.mark.parametrize("order", [2, 3])
def test_the_error_follows_the_tolerance_and_so_does_the_cost(order):
    begin, end = 0.95, 0.02

    def score(z, t):
        alpha, sigma = VP.alpha(t), VP.sigma(t)
        return (z - alpha * MEAN) / jnp.sqrt(alpha**2 * VARIANCE + sigma**2)

    with jax.enable_x64(True):
        start = jnp.asarray(np.linspace(-2.0, 2.0, 8).reshape(4, 2))
        solve = jax.jit(
            lambda rtol: run(start, begin=begin, end=end, order=order, rtol=rtol, atol=0.1 * rtol)
        )
        found = [solve(tolerance) for tolerance in (1e-2, 1e-4)]
        # The flow keeps the standard score.
        errors = [float(jnp.abs(score(f.z, end) - score(start, begin)).max()) for f in found]
        cost = [np.asarray(f.evaluations) for f in found]
    # A tolerance of one step; there are dozens, and orders above 2 are better than it.
    assert errors[0] < 3e-2
    assert errors[1] < 1e-3
    assert errors[1] < errors[0] / 20
    assert (cost[1] > 1.8 * cost[0]).all()
    assert (cost[0] % order == 0).all()


def noise_at(z, ell):
    return (z - denoise(z, 1.0, np.exp(-ell))) * np.exp(ell)


def solved(z, ell, end, order, gains):
    """Algorithm of arXiv:2206.00927, appendix C, of one example with α = 1, and its counts."""
    p, i, d = gains
    powers, inverse = np.array([p + i + d, -p - 2 * d, d]) / order, None
    before, counts, h = z, [0, 0], 0.05
    while ell < end - 1e-5:
        to = min(end, ell + h)
        step, sigma, noise = to - ell, np.exp(-to), noise_at(z, ell)
        one = z - np.exp(-ell - step / order) * np.expm1(step / order) * noise
        change = noise_at(one, ell + step / order) - noise
        low = z - sigma * np.expm1(step) * noise
        if order == 2:
            high = low - sigma * np.expm1(step) * change
        else:
            width = 2 / 3 * step
            two = z - np.exp(-ell - width) * np.expm1(width) * noise
            two = two - np.exp(-ell - width) * 2 * (np.expm1(width) / width - 1) * change
            change, first = noise_at(two, ell + width) - noise, change
            high = low - sigma * 1.5 * (np.expm1(step) / step - 1) * change
            low = low - sigma * 1.5 * np.expm1(step) * first
        allowed = np.maximum(0.003, 0.02 * np.maximum(abs(low), abs(before)))
        error = 1e-8 + np.sqrt(np.mean(((low - high) / allowed) ** 2))
        inverse = np.full(3, 1 / error) if inverse is None else [1 / error, *inverse[1:]]
        factor = 1 + np.arctan(np.prod(np.power(inverse, powers)) - 1)
        counts[0] += order
        if factor >= 0.81:
            inverse, z, before, ell = [inverse[0], inverse[0], inverse[1]], high, low, to
        else:
            counts[1] += 1
        h *= factor
    return z, counts


@pytest.mark.parametrize(("order", "gains"), [(2, (0.2, 0.7, 0.1)), (3, (0.0, 1.0, 0.0))])
def test_steps_are_tried_accepted_and_controlled_as_in_the_paper(order, gains):
    schedule = schedules.EDM(sigma_min=0.05, sigma_max=20.0)
    rows = 20 * np.random.default_rng(0).standard_normal((2, 3)) + np.array([[0.0], [90.0]])
    with jax.enable_x64(True):
        options = {"order": order, "gains": gains, "end": 0.0, "rtol": 0.02, "atol": 0.003}
        found = jax.jit(lambda start: run(start, schedule, **options))(jnp.asarray(rows))
        z, *counts = map(np.asarray, found)
    for row, *mine in zip(rows, z, *counts, strict=True):
        expected, (evaluations, rejected) = solved(row, -np.log(20), -np.log(0.05), order, gains)
        assert mine[1:] == [evaluations, rejected]
        np.testing.assert_allclose(mine[0], expected, rtol=1e-6)


def test_an_example_is_as_alone_in_any_batch():
    # One example of pure noise, one far outside, where steps are refused.
    start = jnp.array([[0.3, -1.2], [40.0, -9.0], [0.1, 0.2]])
    together = jax.jit(run)(start)
    for i in range(3):
        alone = jax.jit(run)(start[i : i + 1])
        np.testing.assert_allclose(together.z[i], alone.z[0], rtol=1e-4)
        assert together.evaluations[i] == alone.evaluations[0]
        assert together.rejected[i] == alone.rejected[0]
    assert len(set(together.evaluations.tolist())) > 1


@pytest.mark.parametrize("schedule", [schedules.RectifiedFlow(), schedules.EDM()])
def test_from_pure_noise_the_spread_is_that_of_the_data(schedule):
    shape, key = (64, 32), jax.random.key(0)

    def sample(key):
        def predict(z, t):
            alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
            return denoise(z, alpha, sigma)

        return adaptive.dpm_solver_adaptive(
            predict, key, shape, schedule=schedule, target=predictions.data, rtol=0.005, atol=0.001
        )

    z, evaluations, rejected = jax.jit(sample)(key)
    # 2,048 draws: 2 % of the deviation, and some steps of the tolerance.
    np.testing.assert_allclose(z.mean(), MEAN, atol=0.04)
    np.testing.assert_allclose(z.std(), VARIANCE**0.5, rtol=0.06)
    assert evaluations.shape == rejected.shape == (64,)
    assert 30 < evaluations.min() <= evaluations.max() < 300


def test_what_is_not_reached_is_nan():
    start = jnp.array([[0.3, -1.2], [0.1, 0.2]])
    few = jax.jit(lambda: run(start, limit=3))()
    assert bool(jnp.isnan(few.z).all())
    np.testing.assert_array_equal(few.evaluations, 9)

    def broken(z, t):
        return jnp.where(jnp.arange(2)[:, None] == 0, jnp.nan, 0 * z)

    z = jax.jit(lambda: run(start, predict=broken, limit=200).z)()
    np.testing.assert_array_equal(jnp.isnan(z).all(1), [True, False])


def test_wrong_arguments_raise():
    start = jnp.ones((2, 2))
    with pytest.raises(ValueError, match="order must be 2 or 3, not 1"):
        run(start, order=1)
    with pytest.raises(ValueError, match="decrease"):
        run(start, begin=0.1, end=0.5)
    with pytest.raises(ValueError, match=r"\(2, 2\), got \(2, 1\)"):
        jax.eval_shape(lambda: run(start, predict=lambda z, t: z[:, :1]))
    with pytest.raises(TypeError, match=r"such as schedules\.VP"):
        run(start, schedule="vp")
