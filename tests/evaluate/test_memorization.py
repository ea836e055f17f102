"""Copies of training images: found however they were changed, at the nominal rate of alarms."""

import numpy as np
import pytest
from scipy import stats

from genjax.data import drawing
from genjax.evaluate import copies, memorization, nearest
from genjax.evaluate.features import network
from tools import audit_powers, planted

pytestmark = pytest.mark.heavy


def noise(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_the_nearest_rows_are_those_of_all_distances_in_float64():
    x, y = noise(20, 5) + 100, noise(70, 5, 1) + 100
    exclude = np.arange(20)
    found, rows = nearest.nearest(x, (y[i : i + 32] for i in range(0, 70, 32)), 3, exclude=exclude)
    every = np.linalg.norm(x[:, None].astype(np.float64) - y, axis=2)
    every[exclude, exclude] = np.inf
    np.testing.assert_array_equal(rows, np.argsort(every, 1)[:, :3])
    np.testing.assert_allclose(found, np.sort(every, 1)[:, :3], rtol=1e-4)


def test_too_few_rows_for_the_neighbours_raise():
    with pytest.raises(ValueError, match="there are 2 rows"):
        nearest.nearest(noise(4, 3), [noise(2, 3)], 3)


@pytest.fixture(scope="module")
def shapes():
    return drawing.draw(drawing.factors(np.arange(300), 0))


@pytest.mark.parametrize("plant", planted.COPIES)
def test_a_changed_copy_is_matched_with_its_original(shapes, plant):
    changed = plant(shapes[40:60], np.random.default_rng(1))
    found = copies.matches(changed, shapes)
    assert (found.rows[:, 0] == np.arange(40, 60)).mean() >= 0.9
    assert (np.diff(found.distances, axis=1) >= 0).all()
    if plant in (planted.exact, planted.mirrored):
        assert found.distances[:, 0].max() < 0.02


def test_flat_images_match_nothing(shapes):
    flat = np.full((300, 64, 64, 3), 90, np.uint8)
    np.testing.assert_array_equal(copies.matches(flat[:20], shapes).distances, 1)
    among = np.concatenate([flat[:299], shapes[7:8]])
    assert copies.matches(shapes[:20], among).rows[7, 0] == 299


def test_c_t_is_the_statistic_of_mann_and_whitney():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=40), generator.normal(-0.5, size=30)
    c_t, z = memorization.data_copying(y, x)
    expected = stats.mannwhitneyu(y, x, method="asymptotic", use_continuity=False)
    assert c_t == z < 0
    assert 2 * stats.norm.sf(-z) == pytest.approx(expected.pvalue, rel=1e-9)


def test_c_t_over_cells_is_standard_normal_where_nothing_is_copied():
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        cells = generator.integers(0, 3, 200)
        x = generator.normal(size=200) + cells  # each cell has distances of its own
        found.append(memorization.data_copying(x[:80], x[80:], cells[:80], cells[80:])[1])
    assert abs(np.mean(found)) < 4 / 400**0.5
    assert np.std(found) == pytest.approx(1, abs=4 / 800**0.5)


def test_the_chance_of_exceedances_is_exact():
    # Of n + m exchangeable values the smallest is a sample's with probability n/(n + m).
    assert memorization.exceedance(1, 300, 1, 700) == pytest.approx(0.3)
    assert memorization.exceedance(2, 300, 1, 700) == pytest.approx(0.3 * 299 / 999)
    assert memorization.exceedance(0, 300, 5, 700) == 1


def distant(n, seed, scale=1.0):
    """Neighbours of n images, whose features lie `scale` times as far as those of scale 1."""
    generator = np.random.default_rng(seed)
    rows, ratio = np.zeros((n, 4), int), generator.uniform(0.2, 1, (n, 1))
    next_ones = np.ones((1, 3)) * generator.uniform(1, 1.1, (n, 1))
    distances = scale * np.concatenate([ratio, next_ones], 1)
    nothing = copies.Matches(np.ones((n, 4)), rows)
    return memorization.Neighbours(nothing, distances, rows, np.ones(n, bool))


@pytest.mark.parametrize(("held_out", "closest"), [(100, 1), (198, 1), (199, 2), (400, 4)])
def test_the_threshold_is_the_closest_percent_of_held_out_images(held_out, closest):
    near = distant(held_out, 0)
    found = memorization.decide(near, near).closeness
    assert (found <= 1).sum() == closest
    assert found.min() < 1 or closest == 1


@pytest.mark.parametrize(("scale", "told"), [(0.93, False), (0.9, True), (0.5, True)])
def test_samples_that_are_close_without_being_copies_are_told(scale, told):
    finding = memorization.decide(distant(300, 1, scale), distant(400, 2)).finding
    assert not finding.found
    assert (finding.numbers["c_t_z"] < -3) is told
    assert ("closer to training images than held-out ones" in finding.summary) is told


@pytest.fixture(scope="module")
def powers():
    data = audit_powers.fashion()
    training, real = data["train_images"][:600], data["test_images"][:400]
    rows = audit_powers.copies_found(training, real, 20, 200, 0)
    return {row[0]: [float(x.removesuffix(" %")) for x in row[1:]] for row in rows}


def test_planted_copies_are_found_and_real_images_are_not(powers):
    for none, _, five, twenty, _ in powers.values():
        assert none <= 10  # 1 % of 20 in truth
        assert five >= 60
        assert twenty == 100
    # C_T is a test of the whole distribution, and of pixels as they lie.
    assert powers["mirrored"][-1] < 50


def test_few_held_out_images_cannot_tell(shapes):
    pixels = network.pixels(shapes.shape[1:])
    near = memorization.neighbours(shapes[:20], shapes, pixels)
    finding = memorization.decide(near, near).finding
    assert not finding.decided
    assert "held-out images or more: there are 20" in finding.advice
    with pytest.raises(ValueError, match="three images or more, not 2"):
        memorization.neighbours(shapes[:20], shapes[:2], pixels)


def test_copies_of_images_that_the_training_set_holds_many_times_are_found(shapes):
    pixels = network.pixels(shapes.shape[1:])
    training = np.concatenate([shapes[:270], np.repeat(shapes[:1], 30, 0)])
    fresh = drawing.draw(drawing.factors(np.arange(20), 1))
    real = memorization.neighbours(fresh, training, pixels)
    samples = np.concatenate(
        [np.repeat(shapes[:1], 6, 0), drawing.draw(drawing.factors(np.arange(14), 2))]
    )
    closeness = memorization.decide(
        memorization.neighbours(samples, training, pixels), real
    ).closeness
    assert closeness[:6].max() < 0.5 < closeness[6:].min()
