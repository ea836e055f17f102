"""A person's error rate: the exact interval, and what it says about guessing."""

import numpy as np
import pytest
from scipy import stats

from genjax.evaluate.judgement import Judgement, binomial_interval
from genjax.evaluate.score import Score


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 40), (7, 40), (20, 40), (199, 200)])
def test_the_interval_is_that_of_clopper_and_pearson(k, n):
    # By definition: at its ends the observation lies in a tail of 2.5 %.
    low, high = binomial_interval(k, n)
    if k:
        assert stats.binom.sf(k - 1, n, low) == pytest.approx(0.025)
    if k < n:
        assert stats.binom.cdf(k, n, high) == pytest.approx(0.025)
    assert (low == 0) == (k == 0)
    assert (high == 1) == (k == n)


@pytest.mark.parametrize("p", [0.03, 0.3, 0.5])
def test_the_interval_covers_at_its_level(p):
    # Exactly: the probability of every outcome whose interval holds p.
    n = 50
    ends = [binomial_interval(k, n) for k in range(n + 1)]
    covered = sum(stats.binom.pmf(k, n, p) for k, (a, b) in enumerate(ends) if a <= p <= b)
    assert 0.95 <= covered < 0.99


def test_impossible_counts_are_refused():
    for k, n in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match=f"not {k} of {n}"):
            binomial_interval(k, n)


def test_answers_are_counted_by_kind():
    is_real = [True, True, True, False, False]
    judgement = Judgement.of(is_real, [True, False, True, True, True])
    assert judgement == Judgement(1, 3, 2, 2)
    assert (judgement.errors, judgement.n) == (3, 5)
    assert "error rate: 60.0% (14.7% to 94.7%), 3 of 5" in str(judgement)
    assert "real images called drawn: 33.3%" in str(judgement)
    assert "drawn images called real: 100.0%" in str(judgement)
    assert "real images called drawn: none" in str(Judgement.of([False], [True]))


def test_the_verdict_follows_the_interval():
    def judged(errors, n=100):
        return Judgement(errors, n, 0, 0)

    assert judged(40).verdict.startswith("no different from guessing")
    assert judged(39).verdict.startswith("better than guessing")
    assert judged(61).verdict.startswith("worse than guessing")
    assert judged(39).p_value < 0.05 < judged(40).p_value


def test_guessing_is_called_better_than_guessing_in_at_most_one_of_forty():
    # The coins make the number of errors binomial, whatever the strategy: here "always real".
    rng, n = np.random.default_rng(0), 60
    found = [Judgement.of((rng.random(n) < 0.5).tolist(), [True] * n).verdict for _ in range(2000)]
    share = np.mean([verdict.startswith("better") for verdict in found])
    assert share <= 0.025 + 3 * (0.025 * 0.975 / 2000) ** 0.5
    assert share > 0.002


def test_the_score_is_a_row_of_scores():
    score = Judgement(10, 50, 20, 50).score
    low, high = binomial_interval(30, 100)
    assert (score.value, score.low, score.high, score.better) == (0.3, low, high, "higher")
    assert Score.from_dict(score.as_dict()) == score
