"""What a person's answers say: how often real and drawn images are taken for each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from genjax.evaluate.score import Score

LEVEL = 0.95


def binomial_interval(k: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a probability.

    It covers the probability at `level` or above, whatever that is.

    Args:
      k: how often it happened.
      n: of how many trials, at least 1.
      level: of the interval.

    Returns:
      Lower and upper end.

    Raises:
      ValueError: unless 0 <= k <= n and n is at least 1.

    References:
      Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the
      binomial" (Biometrika, 1934).
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"give k of n trials, not {k} of {n}")
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return low, high


@dataclass(frozen=True)
class Judgement:
    """Answers to "real or drawn?", where each image was real with probability 1/2.

    Attributes:
      real_as_drawn: real images that were called drawn.
      real: real images that were judged.
      drawn_as_real: drawn images that were called real.
      drawn: drawn images that were judged.
    """

    real_as_drawn: int
    real: int
    drawn_as_real: int
    drawn: int

    @classmethod
    def of(cls, is_real: Sequence[bool], called_real: Sequence[bool]) -> Judgement:
        """Counts the answers.

        Args:
          is_real: of each image.
          called_real: as many answers.

        Returns:
          The counts.
        """
        pairs = list(zip(is_real, called_real, strict=True))
        return cls(
            pairs.count((True, False)),
            sum(is_real),
            pairs.count((False, True)),
            len(pairs) - sum(is_real),
        )

    @property
    def n(self) -> int:
        """Answers."""
        return self.real + self.drawn

    @property
    def errors(self) -> int:
        """Wrong answers."""
        return self.real_as_drawn + self.drawn_as_real

    @property
    def p_value(self) -> float:
        """Probability that guessing is at least as far from half of the answers wrong."""
        return float(stats.binomtest(self.errors, self.n).pvalue)

    @property
    def verdict(self) -> str:
        """Whether the person can tell real images from drawn ones, in one sentence."""
        low, high = binomial_interval(self.errors, self.n)
        if high < 0.5:
            return "better than guessing: real and drawn images can be told apart"
        if low > 0.5:
            return "worse than guessing: drawn images are taken for the real ones"
        return "no different from guessing, as far as so many answers can show"

    @property
    def score(self) -> Score:
        """The error rate as a score of the samples."""
        low, high = binomial_interval(self.errors, self.n)
        return Score(
            name="human error rate",
            value=self.errors / self.n,
            low=low,
            high=high,
            level=LEVEL,
            method="Clopper-Pearson",
            better="higher",
            n=self.drawn,
            n_reference=self.real,
            reference="held-out images",
            network="a person",
            sha256=None,
            resizing="none",
            seed=0,
            floor=None,
        )

    def __str__(self) -> str:
        def line(name: str, k: int, n: int) -> str:
            if not n:
                return f"{name}: none were judged"
            low, high = binomial_interval(k, n)
            return f"{name}: {k / n:.1%} ({low:.1%} to {high:.1%}), {k:,} of {n:,}"

        return "\n".join(
            [
                line("error rate", self.errors, self.n),
                line("real images called drawn", self.real_as_drawn, self.real),
                line("drawn images called real", self.drawn_as_real, self.drawn),
                f"{self.verdict} (p = {self.p_value:.2g}; intervals of {LEVEL:.0%})",
            ]
        )
