"""The score of a classifier's certainty and variety, which is called Inception score by its own."""

from __future__ import annotations

import numpy as np
from scipy.special import entr, log_softmax

from genjax.evaluate.estimate import Estimate, checked, fold_bounds


def classifier_score(logits: np.ndarray) -> Estimate:
    r"""How certain a classifier is of each sample, and how evenly they spread, with its interval.

    $$
    \exp\Bigl(\tfrac1n \sum_i \mathrm{KL}\bigl(p(y \mid x_i) \,\Vert\, p(y)\bigr)\Bigr),
    \qquad p(y) = \tfrac1n \sum_i p(y \mid x_i)
    $$

    It is 1 to the number of classes, and biased upwards for small n. It is blind to variety within
    a class, to copies, and to everything that the classifier does not look at. Published Inception
    scores are means over ten parts of 5,000 samples: take the mean of ten such calls to compare.

    Args:
      logits: of the samples in random order, [n, classes].

    Returns:
      The score.

    Raises:
      ValueError: where there are too few, or they hold NaN.

    References:
      Salimans et al., "Improved Techniques for Training GANs" (2016), arXiv:1606.03498, section 4.
    """
    x = checked(logits, "logits")
    folds = fold_bounds(len(x))
    n, certainty = np.zeros((2, len(folds)))
    probability = np.zeros((len(folds), x.shape[1]))
    for j, (a, b) in enumerate(folds):
        log_p = log_softmax(x[a:b].astype(np.float64), axis=1)
        p = np.exp(log_p)
        n[j], probability[j], certainty[j] = b - a, p.sum(0), (p * log_p).sum()

    def score(kept: np.ndarray) -> float:
        number = n[kept].sum()
        spread = entr(probability[kept].sum(0) / number).sum()
        return float(np.exp(certainty[kept].sum() / number + spread))

    every = np.ones(len(folds), bool)
    without = [score(np.arange(len(folds)) != j) for j in range(len(folds))]
    return Estimate(score(every), (np.array(without),))
