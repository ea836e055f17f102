"""Errors, confusion and calibration of classifiers, by hand and by simulation."""

import numpy as np

from genjax.evaluate import classification


def test_scores_of_each_image():
    logits = np.log([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5]]) + 5
    found = classification.per_image(logits, [0, 0, 2])
    assert np.array_equal(found["error"], [0, 1, 0])
    np.testing.assert_allclose(found["negative_log_likelihood"], -np.log([0.7, 0.3, 0.5]))
    np.testing.assert_allclose(classification.probabilities(logits), np.exp(logits - 5))


def test_large_logits_stay_finite():
    found = classification.per_image([[1e4, 0.0], [1e4, 0.0]], [0, 1])
    np.testing.assert_allclose(found["negative_log_likelihood"], [0, 1e4])
    assert np.array_equal(classification.probabilities([[1e4, 0.0]]), [[1, 0]])


def test_rows_of_the_confusion_matrix_are_true_classes():
    found = classification.confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 0], 4)
    expected = [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    assert np.array_equal(found, expected)


def test_the_calibration_error_of_two_bins_by_hand():
    # Confidence 0.75 and right half of the time; confidence 0.95 and always right.
    p = np.array([0.75, 0.75, 0.95, 0.95])
    logits = np.log(np.stack([p, 1 - p], 1))
    found = classification.calibration_error(logits, [0, 1, 0, 0])
    np.testing.assert_allclose(found, (0.25 + 0.05) / 2)


def test_a_calibrated_classifier_has_no_calibration_error():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40_000, 5))
    p = classification.probabilities(logits)
    labels = (p.cumsum(1) < rng.random((len(p), 1))).sum(1)
    # 15 bins of |mean of n/15 errors| of variance at most 1/4: 15 · √(1/4 · n/15) / n · √(2/π).
    expected = np.sqrt(15 / (4 * len(p)) * 2 / np.pi)
    assert classification.calibration_error(logits, labels) < 1.5 * expected
    assert classification.calibration_error(3 * logits, labels) > 0.1
