"""Shares of attributes: their intervals cover the truth, and a planted shift is found."""

import numpy as np
import pytest

from genjax.data import drawing
from genjax.evaluate import bias
from tools import audit_powers, planted


@pytest.mark.parametrize(
    ("classes", "accuracy", "n", "m"), [(10, 0.8, 1000, 1000), (6, 0.99, 500, 500)]
)
def test_the_intervals_cover_at_their_rate_and_ten_points_are_found(classes, accuracy, n, m):
    held, alarms, found = audit_powers.simulated_shares(200, classes, accuracy, n, m, 0)
    # 400 sets of intervals at 95 %: four standard deviations are 4.4 points.
    assert held > 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5
    assert alarms < 0.05 + 4 * (0.95 * 0.05 / 200) ** 0.5
    assert found > 0.9


def test_without_the_correction_confusion_looks_like_bias():
    generator = np.random.default_rng(0)
    truth = generator.choice(2, 20_000, p=[0.9, 0.1])
    read = np.where(generator.random(20_000) < 0.2, 1 - truth, truth)
    found = bias.shares(read[:10_000], read[10_000:], truth[10_000:], truth, ("a", "b"))
    assert (read[:10_000] == 1).mean() > 0.25
    assert found.samples[1] == pytest.approx(0.1, abs=0.02)
    assert not found.differing.any()
    assert found.accuracy == pytest.approx(0.8, abs=0.01)


@pytest.mark.heavy
def test_on_drawn_shapes_a_planted_shift_is_found_and_the_data_itself_is_not():
    factors = drawing.factors(np.arange(1200), 0)
    images, names = drawing.draw(factors), tuple(drawing.COLOURS)
    read, known = planted.colours_read(images), factors.colour
    held_out, pool = slice(0, 500), np.arange(500, 1200)
    generator = np.random.default_rng(0)
    weights = np.where(known[pool] == 3, 0.225 / 0.125, 0.775 / 0.875)
    shifted = generator.choice(pool, 1000, p=weights / weights.sum())
    for rows, expected in ((generator.choice(pool, 1000), False), (shifted, True)):
        each = bias.shares(read[rows], read[held_out], known[held_out], known, names)
        finding = bias.bias({"colour": each}, 1000, 500)
        assert finding.found is expected
        assert bool(each.differing[3]) is expected
    assert finding.summary.startswith("colour green: 2")
    assert finding.numbers["colour/green/low"] > 0


def test_what_a_classifier_cannot_read_is_said_not_decided():
    generator = np.random.default_rng(0)
    truth, guesses = generator.integers(0, 4, (2, 400))
    each = bias.shares(guesses, guesses, truth, truth, tuple("abcd"))
    finding = bias.bias({"mood": each}, 400, 400)
    assert (finding.found, finding.decided) == (False, False)
    assert "cannot be read: mood" in finding.summary
    # Nor where a class of the data has no held-out image.
    held_out = np.zeros(400, int)
    assert not bias.shares(guesses, guesses, held_out, truth, tuple("abcd")).informative


@pytest.mark.parametrize(("widest", "expected"), [(0.3, True), (1.1, False)])
def test_one_interval_that_is_too_wide_says_that_the_attribute_cannot_be_read(widest, expected):
    share, low = np.full(3, 1 / 3), np.array([0.1, -0.1, -0.1])
    width = np.array([0.1, 0.1, widest])
    found = bias.Shares(tuple("abc"), share, share, low, low + width, 0.9)
    assert found.informative is expected
    assert found.differing.any() == expected


@pytest.mark.parametrize(("count", "rest"), [(5, ""), (7, "; and 2 more")])
def test_of_many_differing_classes_five_are_named(count, rest):
    names, low = tuple("abcdefgh"), np.where(np.arange(8) < count, 0.05, -0.05)
    shares = bias.Shares(names, np.full(8, 0.2), np.full(8, 0.1), low, low + 0.1, 0.9)
    summary = bias.bias({"kind": shares}, 400, 400).summary
    assert summary.count("kind ") == 5
    assert summary.partition("points)")[0].startswith("kind a: 20.0% of the samples")
    assert summary.endswith(f"points){rest}")


def test_the_nearest_images_vote_and_the_nearest_breaks_ties():
    labels = np.array([0, 1, 1, 2, 2, 0])
    rows = np.array([[0, 1, 2, 3, 4], [3, 1, 2, 4, 0], [5, 1, 2, 0, 3]])
    np.testing.assert_array_equal(bias.votes(rows, labels, 3), [1, 2, 0])
