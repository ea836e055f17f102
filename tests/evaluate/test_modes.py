"""Modes found and reverse KL, against closed forms and scipy."""

import numpy as np
import pytest
from scipy.special import rel_entr

from genjax.evaluate.modes import modes


def test_the_divergence_is_that_of_the_shares_from_the_datas():
    rng = np.random.default_rng(0)
    p, samples = rng.dirichlet(np.ones(7)), rng.integers(0, 5, 100)
    found = modes(samples, p)
    share = np.bincount(samples, minlength=7) / 100
    np.testing.assert_allclose(found.reverse_kl, rel_entr(share, p).sum(), rtol=1e-12)
    assert (found.found, found.of, found.n) == (5, 7, 100)


def test_all_modes_alike_are_no_divergence_and_one_of_ten_is_log_ten():
    p = np.full(10, 0.1)
    assert modes(np.arange(20) % 10, p).reverse_kl == pytest.approx(0, abs=1e-12)
    one = modes(np.full(9, 3), p)
    assert one.found == 1
    np.testing.assert_allclose(one.reverse_kl, np.log(10))


def test_samples_of_the_data_have_the_divergence_and_the_modes_of_chance():
    rng = np.random.default_rng(1)
    p, n = rng.dirichlet(np.full(50, 2.0)), 2000
    found = [modes(rng.choice(50, n, p=p), p) for _ in range(400)]
    # χ² / 2n of 49 degrees of freedom: the error of a mean of 400 is 0.5 %.
    np.testing.assert_allclose(np.mean([f.reverse_kl for f in found]), 49 / (2 * n), rtol=0.02)
    few = [modes(rng.choice(50, 40, p=p), p).found for _ in range(400)]
    np.testing.assert_allclose(np.mean(few), 50 - ((1 - p) ** 40).sum(), rtol=0.02)


def test_a_sample_where_the_data_have_none_is_infinitely_far():
    assert modes([0, 1], [1.0, 0.0]).reverse_kl == np.inf


@pytest.mark.parametrize(
    ("samples", "data", "message"),
    [
        ([], [1.0], "one or more modes in 0 to 0"),
        ([0, 2], [0.5, 0.5], "one or more modes in 0 to 1"),
        ([-1, 0], [0.5, 0.5], "one or more modes"),
        ([0], [0.5, 0.4], "sum to 1"),
        ([0], [1.5, -0.5], "must be probabilities"),
    ],
)
def test_what_is_no_mode_or_no_probability_is_refused(samples, data, message):
    with pytest.raises(ValueError, match=message):
        modes(samples, data)
