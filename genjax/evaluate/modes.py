"""Which modes of data samples cover, where the modes are known: their number and reverse KL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Modes:
    """The modes of samples.

    Attributes:
      found: modes of which there is a sample.
      of: modes that the data have, K.
      reverse_kl: KL of the samples' shares from the data's, nats.
      n: samples.
    """

    found: int
    of: int
    reverse_kl: float
    n: int


def modes(samples: ArrayLike, data: ArrayLike) -> Modes:
    r"""Counts modes, and compares the shares of samples with those of the data.

    $$
    \mathrm{KL}(\hat p \,\Vert\, p) = \sum_k \hat p_k \log \frac{\hat p_k}{p_k}, \qquad
    \hat p_k = \frac{n_k}{n}
    $$

    Both depend on n. Of n samples of the data themselves, $K - \sum_k (1 - p_k)^n$ modes are found
    on average, and the divergence is about $(K - 1) / 2n$ where n is far above K. The modes of
    images are what a classifier says: where it errs, it finds modes that are not there.

    Args:
      samples: the mode of each sample, integers in 0..K−1, [n].
      data: the probability of each mode in the data, [K].

    Returns:
      The modes found. The divergence is infinite where a sample has a mode of probability 0.

    Raises:
      ValueError: without samples, for a mode that is not in 0..K−1, or for probabilities that are
        negative or do not sum to 1.

    References:
      Metz et al., "Unrolled Generative Adversarial Networks" (2017), arXiv:1611.02163, section
      3.3.1: 1,000 modes of three stacked digits.
      Srivastava et al., "VEEGAN" (2017), arXiv:1705.07761, and Lin et al., "PacGAN" (2018),
      arXiv:1712.04086: the divergence, of 26,000 samples.
    """
    found, p = np.asarray(samples), np.asarray(data, np.float64)
    if not (p >= 0).all() or abs(p.sum() - 1) > 1e-6:
        raise ValueError("data must be probabilities, which sum to 1")
    if not len(found) or found.min() < 0 or found.max() >= len(p):
        raise ValueError(f"samples must be one or more modes in 0 to {len(p) - 1}")
    counts = np.bincount(found, minlength=len(p))
    share = counts[counts > 0] / len(found)
    with np.errstate(divide="ignore"):
        divergence = (share * (np.log(share) - np.log(p[counts > 0]))).sum()
    return Modes(int((counts > 0).sum()), len(p), float(divergence), len(found))
