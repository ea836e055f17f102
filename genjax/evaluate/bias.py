"""Shares of attributes among samples against those of the data, with simultaneous intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from genjax.evaluate.finding import Finding

LEVEL = 0.95  # of the intervals, all together
VOTES = 5  # nearest training images that vote on an attribute
TOO_WIDE = 0.5  # half width of an interval that says nothing
ADVICE = (
    "train longer or on a balanced set, or draw by class where the model takes labels; samples of "
    "another kind than the data's may also be read wrongly, so look at some"
)


@dataclass(frozen=True)
class Shares:
    """The shares of the classes of one attribute.

    Attributes:
      names: of the classes.
      samples: share of each among the samples, corrected for the classifier's errors, [K].
      data: share of each in the data, [K].
      low: lower ends of the intervals of `samples` − `data`, [K].
      high: upper ends, [K].
      accuracy: of the classifier, on held-out data.
    """

    names: tuple[str, ...]
    samples: np.ndarray
    data: np.ndarray
    low: np.ndarray
    high: np.ndarray
    accuracy: float

    @property
    def informative(self) -> bool:
        """Whether the intervals say anything, which they do not where the classifier guesses."""
        return bool(np.isfinite(self.low).all() and (self.high - self.low).max() < 2 * TOO_WIDE)

    @property
    def differing(self) -> np.ndarray:
        """The classes whose interval does not hold 0, bool [K]."""
        return self.informative & ((self.low > 0) | (self.high < 0))


def shares(
    predicted: np.ndarray,
    held_out_predicted: np.ndarray,
    held_out: np.ndarray,
    data: np.ndarray,
    names: Sequence[str],
    *,
    level: float = LEVEL,
) -> Shares:
    r"""Corrects the shares that a classifier sees for its confusions, with simultaneous intervals.

    Of images of class j it calls the share C_jk class k. Shares π of the classes are seen as
    q = Cᵀ π, so that π is estimated from the seen ones, and its covariance from the multinomial
    noise of q, of the rows of C and of the data's shares p:

    $$
    \hat\pi = C^{-\top} q, \qquad
    \Sigma = C^{-\top} \Bigl(\tfrac{1}{n}\Sigma_q
      + \sum_j \tfrac{\hat\pi_j^2}{m_j} \Sigma_{C_j}\Bigr) C^{-1} + \tfrac{1}{N}\Sigma_p, \qquad
    \Sigma_p = \operatorname{diag}(p) - p p^\top
    $$

    The intervals of the K differences π − p are normal, at the level together by Bonferroni; half
    a count is added to every cell where a variance is estimated. It is assumed that the classifier
    confuses samples as it confuses held-out images.

    Args:
      predicted: the classifier's class of each sample, int [n].
      held_out_predicted: of each held-out image, int [m].
      held_out: the true class of each held-out image, int [m].
      data: the true class of each image of the data, int [N].
      names: of the K classes.
      level: probability that all intervals hold their differences.

    Returns:
      The shares; where the confusions cannot be inverted, or a class of the data has no held-out
      image, intervals of no information.

    References:
      Saerens, Latinne & Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
      Probabilities: A Simple Procedure" (Neural Computation, 2002), section 2.3.1.
    """
    k = len(names)
    confusions = np.zeros((k, k))
    np.add.at(confusions, (held_out, held_out_predicted), 1)
    seen, counts = np.bincount(predicted, minlength=k), np.bincount(data, minlength=k)
    q, p, of_each = seen / seen.sum(), counts / counts.sum(), confusions.sum(1)
    accuracy = float(np.trace(confusions) / of_each.sum())
    nothing = np.full(k, -np.inf), np.full(k, np.inf)
    try:
        inverse = np.linalg.inv((confusions / np.maximum(of_each, 1)[:, None]).T)
    except np.linalg.LinAlgError:  # as where a class has no held-out image
        return Shares(tuple(names), q, p, *nothing, accuracy)
    estimate = inverse @ q
    noise = _covariance(seen)
    for j in range(k):
        noise = noise + np.clip(estimate[j], 0, 1) ** 2 * _covariance(confusions[j])
    covariance = inverse @ noise @ inverse.T + _covariance(counts)
    half = stats.norm.isf((1 - level) / (2 * k)) * np.sqrt(np.diag(covariance))
    gap = estimate - p
    low, high = np.maximum(gap - half, -p), np.minimum(gap + half, 1 - p)
    return Shares(tuple(names), np.clip(estimate, 0, 1), p, low, high, accuracy)


def _covariance(counts: np.ndarray) -> np.ndarray:
    """Of shares estimated by counts; half a count per cell keeps that of a rare one from 0."""
    smooth = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return (np.diag(smooth) - np.outer(smooth, smooth)) / max(counts.sum(), 1)


def votes(rows: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """A classifier without training: the nearest training images vote, the nearest breaks ties.

    Args:
      rows: the nearest training images of each image, the nearest first, int [n, k].
      labels: class of each training image, int [N].
      classes: number of classes.

    Returns:
      int [n].
    """
    theirs = labels[rows[:, :VOTES]]
    weights = 1 + 0.01 * 0.5 ** np.arange(theirs.shape[1])
    ballots = np.zeros((len(rows), classes))
    np.add.at(ballots, (np.arange(len(rows))[:, None], theirs), weights)
    return ballots.argmax(1)


def bias(
    attributes: Mapping[str, Shares],
    n: int,
    n_reference: int,
    *,
    level: float = LEVEL,
    network: str = "pixels",
    seed: int = 0,
) -> Finding:
    """Whether samples have other shares of attributes than the data.

    Args:
      attributes: {attribute: its shares}, each at the level 1 − (1 − `level`)/(attributes).
      n: samples.
      n_reference: held-out images.
      level: of all intervals together.
      network: the name of what the classifier sees.
      seed: of the samples, for the record.

    Returns:
      The decision.
    """
    numbers: dict[str, float] = {}
    lines, unread = [], []
    for name, each in attributes.items():
        if not each.informative:
            unread.append(f"{name} ({each.accuracy:.0%} are read rightly)")
            continue
        numbers[f"{name}/accuracy"] = each.accuracy
        gaps = each.samples - each.data
        for k, label in enumerate(each.names):
            numbers[f"{name}/{label}"] = float(gaps[k])
            numbers[f"{name}/{label}/low"] = float(each.low[k])
            numbers[f"{name}/{label}/high"] = float(each.high[k])
        order = np.argsort(-np.abs(gaps), kind="stable").tolist()
        for k in (k for k in order if each.differing[k]):
            lines.append(
                f"{name} {each.names[k]}: {each.samples[k]:.1%} of the samples, {each.data[k]:.1%} "
                f"of the data ({each.low[k] * 100:+.1f} to {each.high[k] * 100:+.1f} points)"
            )
    decided = len(unread) < len(attributes)
    known = len(attributes) - len(unread)
    text = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
    if not text:
        text = f"no share of {known} attribute(s) differs beyond its interval"
    if unread:
        text += f"; cannot be read: {', '.join(unread)}"
    advice = ADVICE if decided else "give a network or an exported classifier that reads it"
    reference = (n, n_reference, decided, network, seed)
    return Finding("bias", bool(lines), text, advice, numbers, 1 - level, *reference)
