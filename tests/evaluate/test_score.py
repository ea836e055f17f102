"""Scores and their comparison: what is saved, what is refused, what a paired interval says."""

import json
from dataclasses import replace

import numpy as np
import pytest

from genjax.evaluate.estimate import FOLDS, Estimate, checked, fold_bounds, linearized
from genjax.evaluate.score import ComparisonError, Score, compare

OF = {
    "n": 500,
    "n_reference": 1000,
    "reference": "fashion_mnist_6k test",
    "network": "vgg16",
    "sha256": "2ecbe4ce" + 56 * "0",
    "resizing": "bicubic, antialiased, to 64x64",
    "seed": 0,
    "fingerprint": "abc",
}


def estimate(value, samples=0.0, reference=None, rng=0):
    noise = np.random.default_rng(rng).normal(size=FOLDS)
    shared = np.zeros(FOLDS) if reference is None else reference
    return Estimate(value, (value + samples * noise, value + shared))


def made(value, samples=0.0, reference=None, rng=0, better="lower"):
    found = estimate(value, samples, reference, rng)
    return Score.from_estimate(found, "kernel distance, vgg16", better, found, **OF)


def test_the_error_of_a_mean_is_its_standard_error():
    x, y = np.random.default_rng(0).normal(size=(2, 400))

    def without(z):
        return np.array([np.delete(z, slice(a, b)).mean() for a, b in fold_bounds(len(z))])

    mean = Estimate(x.mean() - y.mean(), (without(x) - y.mean(), x.mean() - without(y)))
    folds = [np.array([z[a:b].mean() for a, b in fold_bounds(400)]) for z in (x, y)]
    assert mean.error == pytest.approx(sum(f.var(ddof=1) / FOLDS for f in folds) ** 0.5)
    np.testing.assert_allclose(without(x), x.mean() + linearized(x), atol=1e-12)
    # t quantiles of 19 and of 38 degrees of freedom: one set, and two of equal variance.
    one = Estimate(1.0, (folds[0],))
    assert one.interval()[1] - 1 == pytest.approx(2.093024 * one.error, rel=1e-6)
    two = Estimate(1.0, (folds[0], folds[0]))
    assert two.interval()[1] - 1 == pytest.approx(2.024394 * two.error, rel=1e-6)
    assert Estimate(1.0, (np.ones(FOLDS),)).interval() == (1.0, 1.0)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="give at least 40"):
        fold_bounds(39)
    assert [b - a for a, b in fold_bounds(41)].count(3) == 1
    with pytest.raises(ValueError, match="samples hold NaN"):
        checked(np.array([[1.0, np.nan]]), "samples")
    for wrong in (np.zeros((0, 3)), np.zeros(3), np.float32(1).reshape(1, 1)[:, :0]):
        with pytest.raises(ValueError, match="must be features"):
            checked(wrong, "samples")


def test_a_score_survives_json_and_prints_all_that_it_depends_on():
    score = made(0.0123, samples=0.001)
    again = Score.from_dict({"step": 3, **json.loads(json.dumps(score.as_dict()))})
    assert again == score
    line = str(score)
    assert "\n" not in line
    expected = "kernel distance, vgg16 0.0123 (", "at 95% by jackknife over 20 folds", "n 500"
    more = "1,000 of fashion_mnist_6k test", "bicubic", "2ecbe4ce", "seed 0", "lower is better"
    for part in (*expected, *more, "real images 0.0123"):
        assert part in line
    assert "no floor" in str(replace(score, floor=None))
    assert "\x1b" not in str(replace(score, name="\x1b[2J"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("value", None),
        ("value", float("nan")),
        ("low", "0"),
        ("n", -1),
        ("n", True),
        ("better", "more"),
        ("better", ["lower"]),
        ("floor", {"value": 1.0}),
        ("floor", 3),
        ("sha256", 5),
        ("network", None),
    ],
)
def test_a_row_that_is_no_score_is_refused(name, value):
    with pytest.raises(ValueError, match=f"the {name} of a score"):
        Score.from_dict({**made(1.0).as_dict(), name: value})


def test_a_row_without_a_part_or_with_broken_folds():
    with pytest.raises(ValueError, match="JSON object"):
        Score.from_dict([1])
    with pytest.raises(ValueError, match="needs 'level'"):
        Score.from_dict({k: v for k, v in made(1.0).as_dict().items() if k != "level"})
    for folds in ("abc", [["a", "b"]], [[1.0]], 7):
        assert Score.from_dict({**made(1.0).as_dict(), "replicates": folds}).replicates == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "kernel distance, pixels"}, "score"),
        ({"network": "pixels"}, "network"),
        ({"sha256": None}, "sha256"),
        ({"resizing": "none"}, "resizing"),
        ({"reference": "fashion_mnist_6k train"}, "reference"),
        ({"fingerprint": "abd"}, "reference images"),
        ({"n": 501}, r"n of samples \(500 and 501\)"),
        ({"n_reference": 999}, "n of reference"),
        ({"seed": 1}, "seed"),
        ({"level": 0.9}, "level"),
        ({"method": "bootstrap"}, "method"),
        ({"better": "higher"}, "direction"),
    ],
)
def test_scores_of_different_things_are_not_ranked(change, said):
    with pytest.raises(ComparisonError, match=f"cannot be ranked, they differ in .*{said}"):
        compare(made(1.0), replace(made(2.0), **change))


def test_two_differences_are_both_named():
    other = replace(made(2.0), n=3, seed=4)
    with pytest.raises(ComparisonError, match=r"n of samples \(500 and 3\); seed \(0 and 4\)"):
        compare(made(1.0), other)


def test_scores_without_folds_are_not_ranked():
    with pytest.raises(ComparisonError, match="folds are not kept"):
        compare(replace(made(1.0), replicates=()), replace(made(2.0), replicates=()))


def test_what_the_reference_does_to_both_cancels():
    # The reference moves both by ±1; the difference of 0.1 is certain all the same.
    shared = np.random.default_rng(1).normal(size=FOLDS)
    a, b = made(1.0, 0.001, shared, rng=2), made(1.1, 0.001, shared, rng=3)
    assert a.low < 0 < 2 < a.high
    found = compare(a, b)
    assert (found.better, found.difference) == (0, pytest.approx(-0.1))
    error = np.hypot(a.estimate._variances[0] ** 0.5, b.estimate._variances[0] ** 0.5)
    assert found.high - found.difference == pytest.approx(2.024 * error, rel=0.06)
    assert "the first is better" in str(found)
    swapped = compare(b, a)
    assert (swapped.better, swapped.low) == (1, pytest.approx(-found.high))
    higher = compare(made(1.0, 0.001, shared, 2, "higher"), made(1.1, 0.001, shared, 3, "higher"))
    assert higher.better == 1


def test_no_difference_is_said_where_the_interval_holds_0():
    found = compare(made(1.0, 0.1, rng=2), made(1.1, 0.1, rng=3))
    assert found.low < 0 < found.high
    assert found.better is None
    assert "no difference" in str(found)
