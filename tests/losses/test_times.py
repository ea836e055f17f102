"""Time samplers: their distributions, their densities, and importance by loss history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genjax import keys
from genjax.diffusion import schedules
from genjax.losses import times
from tests.device_counts import DEVICES
from tests.losses.layouts import on_devices

SAMPLERS = {
    "uniform": times.Uniform(),
    "part": times.Uniform(0.2, 0.7),
    "low discrepancy": times.LowDiscrepancy(),
    "logit-normal": times.LogitNormal(0.5, 1.2),
    "log-normal": times.LogNormal(schedules.EDM(), -1.2, 1.2),
    "log-normal on VP": times.LogNormal(schedules.VP(), -0.4, 1.0),
}
N = 4000


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("keys", ["one key", "a key per example"])
def test_draws_follow_the_density(name, keys):
    sampler = SAMPLERS[name]
    key = jax.random.key(7)
    t = np.asarray(sampler(key if keys == "one key" else jax.random.split(key, N), N))
    assert t.shape == (N,)
    grid = np.linspace(1e-6, 1 - 1e-6, 20_001)
    density = np.asarray(sampler.density(jnp.asarray(grid)))
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0)
    assert cumulative[-1] == pytest.approx(1, abs=2e-3)
    # A correct sampler fails for one seed in a thousand; the seed is fixed.
    assert stats.kstest(t, lambda v: np.interp(v, grid, cumulative)).pvalue > 1e-3


def test_log_normal_is_normal_in_the_logarithm_of_sigma():
    schedule = schedules.EDM()
    t = times.LogNormal(schedule)(jax.random.key(0), N)
    log_sigma = np.log(np.asarray(schedule.sigma(t)))
    assert stats.kstest(log_sigma, stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["logit-normal", "log-normal", "log-normal on VP"])
def test_the_larger_of_two_normal_draws_is_the_later_time(name):
    key = jax.random.key(3)
    order = np.argsort(keys.normal(key, (64,), jnp.float32))
    np.testing.assert_array_equal(np.argsort(SAMPLERS[name](key, 64)), order)


@pytest.mark.parametrize("keys", ["one key", "a key per example"])
def test_low_discrepancy_puts_one_time_into_each_stratum(keys):
    key = jax.random.key(1)
    sampler = times.LowDiscrepancy()
    t = np.asarray(sampler(key if keys == "one key" else jax.random.split(key, 64), 64))
    np.testing.assert_array_equal(np.sort(np.floor(t * 64)), np.arange(64))


@pytest.mark.heavy
def test_low_discrepancy_has_far_less_variance_than_independent_times():
    def mean_of_square(sampler):
        keys = jax.random.split(jax.random.key(2), 200)
        return np.asarray(jax.vmap(lambda k: jnp.mean(sampler(k, 32) ** 2))(keys))

    spread, independent = mean_of_square(times.LowDiscrepancy()), mean_of_square(times.Uniform())
    assert spread.std() < independent.std() / 5
    assert abs(spread.mean() - 1 / 3) < 5 * spread.std() / np.sqrt(200)


def test_steps_are_uniform_on_one_to_steps_over_steps():
    t = np.asarray(times.Steps(8)(jax.random.key(0), N)) * 8
    values, counts = np.unique(t, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, 9))
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*SAMPLERS, "steps"])
def test_a_time_depends_on_its_own_key_alone(name):
    sampler = {**SAMPLERS, "steps": times.Steps(1000)}[name]
    keys = jax.random.split(jax.random.key(3), 6)
    others = keys.at[3:].set(jax.random.split(jax.random.key(4), 3))
    before, after = sampler(keys, 6), sampler(others, 6)
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (before[3:] != after[3:]).all()
    old_style = jax.random.key_data(keys)
    np.testing.assert_array_equal(sampler(old_style, 6), before)


def test_a_wrong_number_of_keys_raises():
    with pytest.raises(ValueError, match="5 keys for 6"):
        times.Uniform()(jax.random.split(jax.random.key(0), 5), 6)


class Resampler:
    """Nichol & Dhariwal's section 3.3 in NumPy: the last kept losses of each step."""

    def __init__(self, steps, kept):
        self.rows, self.kept = [[] for _ in range(steps)], kept

    def record(self, steps, losses):
        for step, loss in zip(steps, losses, strict=True):
            self.rows[step - 1] = [*self.rows[step - 1], loss][-self.kept :]

    def probabilities(self, uniform):
        if any(len(row) < self.kept for row in self.rows):
            return np.full(len(self.rows), 1 / len(self.rows))
        size = np.sqrt([np.mean(np.square(row)) for row in self.rows])
        return (1 - uniform) * size / size.sum() + uniform / len(self.rows)


def test_loss_history_is_the_resampler_of_nichol_and_dhariwal():
    rng = np.random.default_rng(0)
    history, reference = times.loss_history(6, kept=3), Resampler(6, 3)
    record = jax.jit(times.record)
    warm = []
    for _ in range(12):
        steps, losses = rng.integers(1, 7, 5), rng.exponential(size=5)
        history = record(history, jnp.asarray(steps / 6, jnp.float32), jnp.asarray(losses))
        reference.record(steps, losses)
        p = times.probabilities(history, 0.01)
        np.testing.assert_allclose(p, reference.probabilities(0.01), rtol=1e-5)
        warm.append(bool((p != p[0]).any()))
    assert warm[0] is False
    assert warm[-1] is True


@pytest.mark.heavy
def test_importance_keeps_the_expectation_and_lowers_the_variance():
    steps, n = 10, 20_000
    loss_of = jnp.arange(1, steps + 1, dtype=jnp.float32) ** -2
    history = times.loss_history(steps, kept=2)
    every = jnp.tile(jnp.arange(1, steps + 1), 2)
    history = times.record(history, every / steps, loss_of[every - 1])
    t, weight = times.importance(history, jax.random.key(0), n)
    index = jnp.round(t * steps).astype(int) - 1
    weighted, plain = np.asarray(weight * loss_of[index]), np.asarray(loss_of)
    assert abs(weighted.mean() - plain.mean()) < 5 * weighted.std() / np.sqrt(n) + 1e-5
    # Drawn in proportion to losses without noise, hardly any variance is left.
    assert weighted.std() < 0.02 * plain.std()


def test_a_history_of_zeros_stays_uniform_and_shapes_must_agree():
    history = times.loss_history(4, kept=1)
    history = times.record(history, jnp.arange(1, 5) / 4, jnp.zeros(4))
    np.testing.assert_allclose(times.probabilities(history), 0.25, rtol=1e-6)
    with pytest.raises(ValueError, match=r"\(4,\) and \(3,\)"):
        times.record(history, jnp.ones(4), jnp.ones(3))


@pytest.mark.heavy
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("layout", ["pmap", "jit"])
@pytest.mark.parametrize("kind", ["one key", "a key per example"])
def test_low_discrepancy_spreads_the_batch_of_all_devices(kind, layout, devices):
    key = jax.random.key(1)
    if kind == "a key per example":
        key = jax.random.split(key, 16)
    expected = times.LowDiscrepancy()(key, 16)
    found = on_devices(
        lambda x, key: times.LowDiscrepancy()(key, len(x)), devices, layout, jnp.zeros(16), key
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.sort(np.floor(found * 16)), np.arange(16))


@pytest.mark.heavy
@pytest.mark.parametrize("devices", [2, 8])
def test_every_device_records_the_losses_of_all(devices):
    history = times.loss_history(4, kept=3)
    t, losses = (jnp.arange(16) % 4 + 1) / 4, jnp.linspace(1.0, 2.0, 16)
    expected = times.record(history, t, losses)
    found = jax.pmap(times.record, "data", in_axes=(None, 0, 0), devices=jax.devices()[:devices])(
        history, t.reshape(devices, -1), losses.reshape(devices, -1)
    )
    for here, there in zip(expected, found, strict=True):
        for copy in there:
            np.testing.assert_array_equal(copy, here)


# Of the keys 0, 1, 2, … the first whose draws of U[0, 1) are the least and the greatest.
LEAST, GREATEST = 780_233, 20_192_286


def test_uniform_times_are_inside_where_the_draw_is_at_the_edge():
    edges = [jax.random.key(LEAST), jax.random.key(GREATEST)]
    np.testing.assert_array_equal([jax.random.uniform(k) for k in edges], [0, 1 - 2.0**-23])
    many = jnp.stack([*edges, *edges])
    for sampler in (keys.uniform_times, times.Uniform()):
        for t in (jnp.concatenate([sampler(k, 1) for k in edges]), sampler(many, 4)[:2]):
            np.testing.assert_array_equal(t, [2.0**-24, 1 - 2.0**-24])
    schedule = schedules.RectifiedFlow()
    assert np.isfinite(schedule.log_snr(keys.uniform_times(many, 4))).all()


def test_low_discrepancy_and_logit_normal_times_stay_inside(monkeypatch):
    # 3 + u rounds to 4 in float32, so that the last of four times would be 1.
    t = times.LowDiscrepancy()(jnp.stack([jax.random.key(GREATEST)] * 4), 4)
    assert t[-1] == 1 - 2.0**-24
    # u + 1/3 rounds to 1, whose remainder would be 0.
    third = np.float32(1 / 3)
    monkeypatch.setattr(keys, "uniform_times", lambda key, n: jnp.full(n, 1 - third))
    t = times.LowDiscrepancy()(jax.random.key(0), 3)
    assert t[1] == 2.0**-24
    for mean, end in ((-60.0, 2.0**-24), (60.0, 1 - 2.0**-24)):
        np.testing.assert_array_equal(times.LogitNormal(mean)(jax.random.key(0), 3), end)


def test_a_time_outside_is_recorded_at_the_nearest_step():
    history = times.record(times.loss_history(4, kept=1), jnp.array([0.0, 1.3]), jnp.ones(2))
    np.testing.assert_array_equal(history.counts, [1, 0, 0, 1])


def test_a_uniform_density_includes_its_ends_and_is_zero_outside():
    density = times.Uniform(0.25, 0.75).density(jnp.array([0.2, 0.25, 0.5, 0.75, 0.8]))
    np.testing.assert_array_equal(density, [0, 2, 2, 2, 0])


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.0), (0.25, 0.75), (0.0, 1.0), (1e-5, 1.0)])
@pytest.mark.parametrize("draw", [0.0, 1.0 - 2.0**-23])
def test_uniform_times_never_reach_an_end(low, high, draw, monkeypatch):
    # The least and the greatest of the numbers that jax.random.uniform draws.
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, draw, dtype)
    )
    t = times.Uniform(low, high)(jax.random.key(0), 3)
    assert bool((t > jnp.float32(low)).all())
    assert bool((t < jnp.float32(high)).all())
    np.testing.assert_allclose(t, low + (high - low) * draw, atol=2e-7)  # it is still that draw
