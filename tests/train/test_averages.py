"""Moving averages: each decay against its formula, and post-hoc ones against those computed."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.losses import consistency
from genjax.train import averages
from genjax.train.averages import Snapshot, exponent, post_hoc, post_hoc_coefficients
from genjax.train.checkpoint import Checkpoints
from genjax.train.game import Aux, Player, initial_state
from genjax.train.layout import DataParallel
from genjax.train.step import make_step

STEPS = 400
# A random walk with drift, behind which an average lags.
TRAJECTORY = np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 3)), axis=0) / 20
TRAJECTORY += np.linspace(0, 3, STEPS)[:, None]
TRACKED = (0.05, 0.1)


def decays(decay, steps):
    return [float(decay(jnp.int32(n))) for n in steps]


def test_a_constant_decay_forgets_the_initial_weights_first():
    # Float32 numbers of order one.
    found = decays(averages.constant(0.5), [0, 1, 7, 8, 9, 1000])
    np.testing.assert_allclose(found, [1 / 10, 2 / 11, 8 / 17, 0.5, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("bad", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_0_to_1_raises(bad):
    for ema in (bad, {"short": 0.9, "long": bad}):
        with pytest.raises(ValueError, match="EMA decay"):
            Player(None, None, ema=ema)
    with pytest.raises(ValueError, match="at least one average"):
        Player(None, None, ema={})


def test_a_half_life_halves_the_weight_of_a_step():
    batch, length = 4, 40
    decay = averages.half_life(length, batch=batch, ramp_up=None)
    # Ten steps of four images are forty images.
    assert float(decay(jnp.int32(5))) ** (length / batch) == pytest.approx(0.5, rel=1e-6)
    assert decays(decay, [0, 10**6]) == [float(decay(jnp.int32(5)))] * 2


def test_a_half_life_may_be_a_function_of_the_step():
    single = averages.half_life(8.0, batch=1, ramp_up=None)
    np.testing.assert_allclose(single(jnp.int32(0)), 0.5 ** (1 / 8), rtol=1e-6)
    moving = averages.half_life(lambda step: 40.0 * step, batch=4, ramp_up=None)
    assert float(moving(jnp.int32(0))) == 0  # the average is then the parameters
    for step in (1, 3):
        same = averages.half_life(40 * step, batch=4, ramp_up=None)(jnp.int32(9))
        assert float(moving(jnp.int32(step))) == float(same)


def test_a_half_life_ramps_up_as_in_edm():
    batch, length, ramp_up = 64, 500_000, 0.05
    for step in (1, 10, 1000, 156_249, 156_250, 156_251, 10**6):
        # NVlabs/edm, training_loop.py, with cur_nimg the images seen before the update.
        nimg = min(length, step * batch * ramp_up)
        expected = 0.5 ** (batch / max(nimg, 1e-8))
        found = float(averages.half_life(length, batch=batch)(jnp.int32(step)))
        assert found == pytest.approx(expected, rel=1e-6)
    assert float(averages.half_life(length, batch=batch)(jnp.int32(0))) == 0
    for bad in ((0, 1, None), (1, 0, None), (1, 1, 0)):
        with pytest.raises(ValueError, match="positive"):
            averages.half_life(bad[0], batch=bad[1], ramp_up=bad[2])


@pytest.mark.parametrize("relative_std", [0.02, 0.05, 0.1, 0.25, 12**-0.5])
def test_the_exponent_gives_the_relative_standard_deviation(relative_std):
    gamma = exponent(relative_std)
    assert gamma >= 0
    variance = (gamma + 1) / (gamma + 3) - ((gamma + 1) / (gamma + 2)) ** 2  # of tau^gamma on 0..1
    assert np.sqrt(variance) == pytest.approx(relative_std, rel=1e-9)


def test_exponents_for_the_lengths_of_the_paper_match_the_paper():
    # Karras et al. 2024, section 3.1.
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    for bad in (0, -0.1, 0.3, float("nan")):
        with pytest.raises(ValueError, match="relative standard deviation"):
            averages.power_function(bad)


def test_a_power_function_decay_is_the_formula_of_the_paper():
    power = exponent(0.1) + 1
    steps = [0, 1, 10, 999]
    found = decays(averages.power_function(0.1), steps)
    np.testing.assert_allclose(found, [(1 - 1 / (n + 1)) ** power for n in steps], rtol=1e-6)


def test_a_power_function_decay_is_accurate_late_in_training():
    step = 2**20
    rate = 1 - float(averages.power_function(0.1)(jnp.int32(step)))
    # Half a unit in the last place of a float32 below 1 is 3e-8.
    assert rate == pytest.approx(1 - (1 - 1 / (step + 1)) ** (exponent(0.1) + 1), abs=4e-8)


def weights(relative_std, step, cells=1):
    """The weight of step τ = 1 … STEPS in an average of `step` steps; cells: parts of a step."""
    power = exponent(relative_std) + 1
    edges = np.arange(STEPS * cells + 1) / cells / step
    return np.where(edges[1:] <= 1 + 1e-12, edges[1:] ** power - edges[:-1] ** power, 0)


def tracked(relative_std, step, trajectory=TRAJECTORY):
    """The average by its definition, update by update."""
    average, power = np.zeros(3), exponent(relative_std) + 1
    for n in range(step):
        decay = (1 - 1 / (n + 1)) ** power
        average = decay * average + (1 - decay) * trajectory[n]
    return average


def snapshots(count=16):
    steps = [STEPS * (i + 1) // count for i in range(count)]
    return [Snapshot(t, std, {"w": tracked(std, t)}) for t in steps for std in TRACKED]


# Lengths between and beyond the tracked ones, and steps with and without a snapshot.
WANTED = [(0.07, 400), (0.15, 400), (0.03, 400), (0.2, 350), (0.07, 333)]


@pytest.mark.parametrize(("relative_std", "step"), WANTED)
def test_a_post_hoc_average_is_the_one_computed_directly_but_for_the_fit_of_its_weights(
    relative_std, step
):
    some = snapshots()
    found = post_hoc(some, step, relative_std)["w"]
    x = post_hoc_coefficients(some, step, relative_std)
    missing = x @ [weights(s.relative_std, s.step) for s in some] - weights(relative_std, step)
    # What the combined weights miss, times the trajectory, is all of the difference: float64.
    expected = tracked(relative_std, step) + missing @ TRAJECTORY
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "bound"),
    # The L2 error of a fit by smooth functions falls with a power of their distance in log τ.
    [(4, 3e-2), (8, 3e-3), (16, 4e-4)],
)
def test_more_snapshots_make_a_post_hoc_average_closer(count, bound):
    found = post_hoc(snapshots(count), STEPS, 0.07)["w"]
    assert np.abs(found - tracked(0.07, STEPS)).max() < bound


@pytest.mark.parametrize(("relative_std", "step"), [(0.05, 400), (0.1, 300), (0.1, 25)])
def test_a_post_hoc_average_that_was_tracked_is_its_snapshot(relative_std, step):
    found = post_hoc(snapshots(), step, relative_std)["w"]
    np.testing.assert_allclose(found, tracked(relative_std, step), atol=1e-12)


def test_a_post_hoc_average_of_one_snapshot_is_that_in_its_own_type():
    one = Snapshot(STEPS, 0.1, {"w": np.arange(3, dtype=np.float16)})
    found = post_hoc([one], STEPS, 0.1)["w"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, one.average["w"])


@pytest.mark.parametrize(("relative_std", "step"), WANTED)
def test_post_hoc_coefficients_are_the_least_squares_of_the_weights(relative_std, step):
    some, cells = snapshots(4), 200
    columns = np.stack([weights(s.relative_std, s.step, cells) for s in some], axis=1)
    expected = np.linalg.lstsq(columns, weights(relative_std, step, cells), rcond=None)[0]
    # Cells of 1/200 step: their means miss the integrals by the square of that.
    np.testing.assert_allclose(
        post_hoc_coefficients(some, step, relative_std), expected, rtol=1e-4, atol=1e-6
    )


def test_post_hoc_needs_snapshots_and_steps():
    some = snapshots(4)
    with pytest.raises(ValueError, match="at least one snapshot"):
        post_hoc([], 100, 0.1)
    with pytest.raises(ValueError, match="at least 1"):
        post_hoc(some, 0, 0.1)
    with pytest.raises(ValueError, match="at least 1"):
        post_hoc([some[0]._replace(step=0)], 100, 0.1)


def test_a_post_hoc_average_keeps_types_and_shapes():
    some = [
        Snapshot(t, std, {"a": jnp.full((2, 3), t, jnp.bfloat16), "b": np.float32(std)})
        for t in (10, 20)
        for std in TRACKED
    ]
    found = post_hoc(some, 20, 0.1)
    assert found["a"].dtype == jnp.bfloat16
    assert found["a"].shape == (2, 3)
    np.testing.assert_array_equal(np.float32(found["a"]), 20)
    assert found["b"].dtype == np.float32
    assert found["b"].shape == ()


# Averages in the train step.


def follow(params, state, keys, batch):
    return jnp.mean((params["p"]["w"][None] - batch) ** 2), Aux()


def played(ema, steps=30):
    """(final state, the parameters after each step)"""
    game = {"p": Player(follow, optax.sgd(0.3), ema=ema)}
    state = initial_state(game, {"p": {"w": jnp.ones(3)}}, {})
    step, seen = jax.jit(make_step(game, None)), []
    for n in range(steps):
        state, _ = step(state, jax.random.key(0), jnp.full((2, 3), np.sin(n), jnp.float32))
        seen.append(np.asarray(state.params["p"]["w"], np.float64))
    return state, seen


def test_several_averages_equal_single_ones_and_the_first_is_sampled():
    kinds = {
        "short": 0.5,
        "a long one": averages.power_function(0.1),
        "half": averages.half_life(8, batch=2),
    }
    several, _ = played(kinds)
    assert isinstance(several.ema["p"], OrderedDict)
    assert list(several.ema["p"]) == list(kinds)  # in order, also out of jit
    for name, ema in kinds.items():
        alone, _ = played(ema)
        np.testing.assert_array_equal(several.ema["p"][name]["w"], alone.ema["p"]["w"])
        assert several.averaged(name)["p"] is several.ema["p"][name]
        assert alone.averaged(name)["p"] is alone.averaged()["p"] is alone.ema["p"]
    assert several.averaged()["p"] is several.ema["p"]["short"]
    with pytest.raises(ValueError, match="no average 'longer'; there are short, a long one, half"):
        several.averaged("longer")


def test_the_step_averages_by_the_power_function():
    state, seen = played(averages.power_function(0.1), steps=100)
    expected = tracked(0.1, 100, np.stack(seen))
    # A hundred roundings of float32 numbers of order one.
    np.testing.assert_allclose(state.ema["p"]["w"], expected, atol=1e-6)


def test_a_decay_can_follow_a_curriculum():
    def decay(step):
        return consistency.teacher_decay(10 * 2 ** (step // 4))

    state, seen = played(decay, steps=12)
    expected = np.ones(3)
    for n, params in enumerate(seen):
        d = np.exp(2 * np.log(0.9) / (10 * 2 ** (n // 4) + 1))
        expected = d * expected + (1 - d) * params
    np.testing.assert_allclose(state.ema["p"]["w"], expected, rtol=1e-5)


def test_several_averages_are_saved_and_restored_in_order(tmp_path):
    state, _ = played({"z": 0.5, "a": 0.9}, steps=3)
    layout = DataParallel(2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.restore(layout.like(state))
    checkpoints.close()
    assert jax.tree.structure(found) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)
    assert found.averaged()["p"] is found.ema["p"]["z"]
