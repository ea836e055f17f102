"""Collapse: planted ones are found, healthy runs are silent."""

import numpy as np
import pytest

from genjax.evaluate import collapse
from genjax.evaluate.collapse import Reference
from genjax.run.collapse_alarm import LOOKS
from tools import audit_powers

pytestmark = pytest.mark.heavy


def clusters(counts, seed=0, spread=0.1):
    """Features around one centre per count."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(len(counts), 6))
    which = np.repeat(np.arange(len(counts)), counts)
    return centres[which] + spread * generator.normal(size=(len(which), 6))


def test_the_effective_number_of_equal_categories_is_their_number():
    np.testing.assert_allclose(collapse.effective(np.array([[5, 5, 0], [9, 0, 0]])), [2, 1])
    shares = np.array([0.9, 0.1])
    assert collapse.effective(shares) == pytest.approx(0.9**-0.9 * 0.1**-0.1)


def test_the_affinity_of_a_distribution_with_itself_is_one():
    cells = np.repeat([0, 1, 2], [10, 20, 70])
    found = collapse.spread(cells, cells, np.tile(np.arange(100), (3, 1)))
    assert found.affinity == pytest.approx(1)
    assert found.filled == pytest.approx(found.filled_real)
    apart = collapse.spread(np.zeros(50, int), cells, np.tile(np.arange(50), (3, 1)))
    assert apart.affinity == pytest.approx(0.1**0.5)


@pytest.mark.parametrize(("n", "looks", "times"), [(64, LOOKS, 20), (500, 1, 8)])
def test_planted_collapses_are_found_and_real_images_are_not(n, looks, times):
    rows = audit_powers.collapses_found(times, n, looks, seed=1)
    found = {name: float(share.removesuffix(" %")) for _, name, _, share in rows}
    assert found["none: real images"] <= 1
    assert found["none: blurred images, sigma 2"] <= 5
    assert found["2 of 10 classes"] >= 80
    assert found["one class at 90 %"] >= 80
    assert found["50 different images"] >= 90


def test_data_of_uneven_modes_is_no_collapse_and_its_frequent_mode_alone_is():
    reference = Reference(clusters([400] + [50] * 12))
    assert not collapse.collapse(clusters([80] + [10] * 12, 1), reference).found
    # More even than the data, and other than it, is no collapse.
    assert not collapse.collapse(clusters([15] * 13, 1), reference).found
    assert collapse.collapse(clusters([200] + [0] * 12, 1), reference).found


def test_samples_that_are_all_alike_have_twins_and_a_small_support():
    reference = Reference(clusters([100] * 10))
    few = clusters([1] * 10, 1)
    finding = collapse.collapse(np.repeat(few, 20, 0), reference)
    assert finding.found
    assert finding.numbers["twins"] == 1
    # n (n - 1)/2 pairs, of which one in ten is alike.
    assert finding.numbers["support"] == pytest.approx(10, rel=0.06)
    assert "as if there were 10 different ones" in finding.summary


@pytest.mark.parametrize(("apart", "pairs"), [(0.9, 100), (1.1, 0)])
def test_pairs_are_twins_up_to_the_distance_of_twins(apart, pairs):
    reference = Reference(clusters([100] * 10))
    distance = reference.twin_distance(200)
    assert 0 < distance < 0.5
    one = 100 * np.random.default_rng(3).normal(size=(100, 6))
    found = collapse.collapse(
        np.concatenate([one, one + apart * distance * np.eye(6)[:1]]), reference
    )
    assert found.numbers["twins"] == (pairs > 0)
    assert found.numbers["support"] == (200 * 199 / 2 / pairs if pairs else np.inf)


def test_missing_images_are_those_of_regions_without_samples():
    reference = Reference(clusters([100] * 10, spread=0.01))
    absent = collapse.missing(clusters([100] * 9 + [0], 1, 0.01), reference)
    np.testing.assert_array_equal(np.flatnonzero(absent), np.arange(900, 1000))
    assert not collapse.missing(clusters([1] * 9 + [0], 1, 0.01), reference).any()  # too few


def test_a_classifier_is_a_second_look():
    reference = Reference(clusters([100] * 10))
    every = np.repeat(np.arange(10), 100)
    finding = collapse.collapse(
        reference.features[::2], reference, classes=(np.zeros(500, int), every)
    )
    assert finding.found
    assert finding.numbers["classes"] == pytest.approx(1)


def test_too_few_samples_cannot_tell():
    finding = collapse.collapse(clusters([5] * 4), Reference(clusters([100] * 4)))
    assert (finding.found, finding.decided) == (False, False)
    assert "20 samples and 400 held-out images are too few" in finding.summary


def test_images_that_are_all_equal_are_one_region():
    assert len(Reference(np.zeros((50, 3))).centres) == 1
    assert (
        not collapse.collapse(np.zeros((40, 3)), Reference(np.zeros((50, 3)))).numbers["regions"]
        > 1
    )
