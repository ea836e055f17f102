"""How good a classifier is on labelled images, from its logits: errors, confusion, calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def probabilities(logits: ArrayLike) -> np.ndarray:
    """The probabilities that a classifier states.

    Args:
      logits: [n, K].

    Returns:
      softmax(logits), float64 [n, K].
    """
    logits = np.asarray(logits, np.float64)
    found = np.exp(logits - logits.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def per_image(logits: ArrayLike, labels: ArrayLike) -> dict[str, np.ndarray]:
    """What a classifier scores on each image; lower is better.

    Args:
      logits: [n, K].
      labels: the true classes, integers [n].

    Returns:
      {"error": 1 where another class has the largest logit, "negative_log_likelihood": −log of the
      true class's probability, nats}, float64 [n] each.

    References:
      Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning" (2009), section 7.2.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    top = logits.max(1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return {
        "error": (logits.argmax(1) != labels).astype(np.float64),
        "negative_log_likelihood": log_sum - logits[np.arange(len(labels)), labels],
    }


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> np.ndarray:
    """How often images of one class were taken for another.

    Args:
      labels: the true classes, integers [n].
      predicted: the classifier's, integers [n].
      classes: K.

    Returns:
      int64 [K, K]: rows are the true classes, columns the classifier's.
    """
    labels, predicted = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    found = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return found.reshape(classes, classes)


def calibration_error(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    r"""The expected calibration error: how far stated probabilities are from shares of hits.

    $$
    \sum_b \frac{n_b}{n} \left| \mathrm{accuracy}_b - \mathrm{confidence}_b \right|
    $$

    over bins b of equal width of the largest probability. It is biased upwards for few images.

    Args:
      logits: [n, K].
      labels: the true classes, integers [n].
      bins: number of bins.

    Returns:
      In 0..1, 0 for a calibrated classifier.

    References:
      Guo et al., "On Calibration of Modern Neural Networks" (2017), arXiv:1706.04599, eq. 3; its 15
      bins.
    """
    found = probabilities(logits)
    confidence = found.max(1)
    hit = found.argmax(1) == np.asarray(labels)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=hit - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
