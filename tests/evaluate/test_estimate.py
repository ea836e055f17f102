"""Intervals of scores against closed forms and SciPy's."""

import numpy as np
import pytest
from scipy import stats

from genjax.evaluate.estimate import Estimate, blocks, fold_bounds, linearized, welch_half_width

X, Y = np.random.default_rng(0).normal(size=(2, 12)) * np.array([[1.0], [3.0]]) + 2


def without_each(x):
    """The mean without each number."""
    return (x.sum() - x) / (len(x) - 1)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    found = Estimate(X.mean(), (without_each(X),))
    assert found.error == pytest.approx(stats.sem(X), rel=1e-12)
    both = Estimate(X.mean() - Y[:8].mean(), (without_each(X), -without_each(Y[:8])))
    expected = np.hypot(stats.sem(X), stats.sem(Y[:8]))
    assert both.error == pytest.approx(expected, rel=1e-12)
    assert both.method == "jackknife over 12 folds"


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_difference_is_that_of_welchs_test(level):
    found = Estimate(X.mean() - Y[:8].mean(), (without_each(X), -without_each(Y[:8])))
    expected = stats.ttest_ind(X, Y[:8], equal_var=False).confidence_interval(level)
    np.testing.assert_allclose(found.interval(level), expected, rtol=1e-9)


def test_the_interval_of_one_mean_is_students_and_of_what_never_varies_a_point():
    low, high = Estimate(X.mean(), (without_each(X),)).interval()
    expected = stats.t.interval(0.95, len(X) - 1, X.mean(), stats.sem(X))
    np.testing.assert_allclose((low, high), expected, rtol=1e-9)
    assert Estimate(0.25, (np.full(20, 0.25),)).interval() == (0.25, 0.25)
    found = welch_half_width([np.array([0.0, 1.0]), np.array([0.0, 2.0])], [4, 9], 0.1)
    degrees = 9 / (1 / 4 + 4 / 9)
    np.testing.assert_allclose(found, [0, -stats.t.ppf(0.05, degrees) * 3**0.5], rtol=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 50), (7, 50), (50, 50), (3, 400)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_share_holds_wilsons(k, n, level):
    found = Estimate(k / n, (np.full(20, k / n),), share_of=n)
    expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(found.interval(level), expected, rtol=1e-9, atol=1e-15)
    assert found.method == "jackknife over 20 folds and Wilson's"


def test_a_difference_of_scores_is_paired_by_the_folds_of_the_reference():
    reference = without_each(Y)
    one = Estimate(5.0, (without_each(X), reference))
    other = Estimate(3.0, (without_each(X[::-1] * 2), reference))
    found = one.minus(other)
    assert found.value == 2
    # The same folds of the reference cancel; the samples of the two are independent.
    expected = np.hypot(stats.sem(X), stats.sem(2 * X))
    assert found.error == pytest.approx(expected, rel=1e-12)


def test_the_infinitesimal_jackknife_of_a_mean_is_what_it_is_without_each_fold():
    x = np.random.default_rng(1).normal(size=45)
    bounds = fold_bounds(45)
    exact = [np.delete(x, np.arange(a, b)).mean() - x.mean() for a, b in bounds]
    np.testing.assert_allclose(linearized(x), exact, rtol=1e-9, atol=1e-15)


def test_folds_and_blocks_cover_every_example_once():
    for n in (40, 45, 1001):
        parts = fold_bounds(n)
        assert len(parts) == 20
        assert [i for a, b in parts for i in range(a, b)] == list(range(n))
        assert {b - a for a, b in parts} <= {n // 20, n // 20 + 1}
    assert list(blocks(9, 4)) == [(0, 4), (4, 8), (8, 9)]
    with pytest.raises(ValueError, match="39 images are too few for an interval: give at least 40"):
        fold_bounds(39)
