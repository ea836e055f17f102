"""Intervals of scores cover at their nominal rate, by simulation."""

import numpy as np
import pytest

from genjax.evaluate.classifier_score import classifier_score
from genjax.evaluate.frechet import frechet, frechet_limit
from genjax.evaluate.kernel_distance import Gaussian, kernel_distance
from genjax.evaluate.neighbours import neighbour_scores
from genjax.evaluate.score import Score, compare
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein_score
from genjax.evaluate.vendi import vendi

SPREAD = 1 / np.sqrt(np.arange(1, 33))  # like a network's features: of decreasing variance
OF = {"n": 0, "n_reference": 0, "reference": "", "network": "", "sha256": None, "resizing": ""}


def neighbour(name):
    return lambda x, y: neighbour_scores(x, y, 3)[name]


SCORES = {
    "frechet": frechet,
    "frechet limit": frechet_limit,
    "kernel": kernel_distance,
    "gaussian kernel": lambda x, y: kernel_distance(x, y, Gaussian(1.0)),
    "sliced wasserstein": lambda x, y: sliced_wasserstein_score(x, y, projections=16),
    "vendi": lambda x, y: vendi(x),
    "classifier": lambda x, y: classifier_score(2 * x),
    **{name: neighbour(name) for name in ("precision", "recall", "density", "coverage")},
}


def drawn(rng, n, d, shift=0.0, scale=1.0):
    x = rng.normal(size=(n, d)) * SPREAD[:d] * scale + shift
    return x.astype(np.float32)


def simulated(score, runs, n, m, d, shift, scale, seed=0):
    """Values, standard errors and ends of the intervals of independent pairs of sets."""
    rng = np.random.default_rng(seed)
    found = [score(drawn(rng, n, d, shift, scale), drawn(rng, m, d)) for _ in range(runs)]
    values = np.array([each.value for each in found])
    return values, np.array([each.error for each in found]), [each.interval() for each in found]


def covered(intervals, true):
    return np.mean([low <= true <= high for low, high in intervals])


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.25, 1.2)], ids=["equal", "different"])
@pytest.mark.parametrize("name", ["frechet", "kernel", "coverage"])
def test_intervals_cover_in_a_few_runs(name, shift, scale):
    values, errors, intervals = simulated(SCORES[name], 40, 80, 80, 4, shift, scale)
    # Of 40 intervals at 95 % fewer than 33 cover with a probability of 1e-3.
    assert covered(intervals, values.mean()) >= 33 / 40
    # Equal distributions double the variance: √2, and 1.9 where shares are near 1.
    assert 0.75 < errors.mean() / values.std() < 2.2


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "d"), [(200, 200, 4), (100, 300, 32)])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.25, 1.2)], ids=["equal", "different"])
@pytest.mark.parametrize("name", SCORES)
def test_intervals_cover_at_95_percent(name, n, m, d, shift, scale):
    values, errors, intervals = simulated(SCORES[name], 400, n, m, d, shift, scale)
    rate = covered(intervals, values.mean())
    print(
        f"{name} {n} {m} {d} {shift}: {rate:.3f}, error over deviation "
        f"{errors.mean() / values.std():.2f}"
    )
    # The rate of 400 intervals has a standard error of 1.1 points: three of them.
    assert rate >= 0.917
    assert errors.mean() / values.std() < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernel", "gaussian kernel", "frechet limit"])
def test_unbiased_scores_cover_the_true_distance(name):
    for d, n in ((4, 200), (16, 400)):
        _, _, intervals = simulated(SCORES[name], 300, n, n, d, 0.0, 1.0)
        assert covered(intervals, 0.0) >= 0.912
    shift = 0.2
    if name == "frechet limit":
        _, _, intervals = simulated(SCORES[name], 300, 200, 200, 4, shift, 1.0)
        assert covered(intervals, 4 * shift**2) >= 0.912


def paired(name, runs, shift, seed):
    """How often the second of two models is called worse or better, where it is off by a shift."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(runs):
        y = drawn(rng, 100, 4)
        scores = [
            Score.from_estimate(
                SCORES[name](drawn(rng, 100, 4, 0.3 + off), y), name, "lower", None, seed=0, **OF
            )
            for off in (0.0, shift)
        ]
        found.append(compare(*scores).better)
    return np.mean([each is not None for each in found]), np.mean([each == 0 for each in found])


def test_a_worse_model_is_found_and_equal_ones_are_not_told_apart():
    assert paired("frechet", 40, 0.0, 0)[0] <= 7 / 40  # more have a probability of 2e-3
    assert paired("frechet", 10, 0.6, 1)[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frechet", "kernel", "sliced wasserstein"])
def test_equal_models_differ_in_5_percent(name):
    assert paired(name, 400, 0.0, 2)[0] <= 0.083
    assert paired(name, 50, 0.5, 3)[1] > 0.9
