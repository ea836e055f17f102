"""Averages: the textbook's mean and error, whatever the batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.evaluate.average import Average, average, ordered_jit

DATA = np.random.default_rng(0).exponential(size=23).astype(np.float32)


def batches(size):
    for start in range(0, len(DATA), size):
        rows = np.arange(start, start + size)
        yield {"x": DATA[rows % len(DATA)], "mask": rows < len(DATA)}


def noisy(keys, batch):
    return {"noisy": batch["x"] + jax.vmap(jax.random.normal)(keys), "x": batch["x"]}


def test_mean_and_error_are_those_of_the_textbook():
    found = average(noisy, batches(5), jax.random.key(0))["x"]
    assert found.n == len(DATA)
    np.testing.assert_allclose(found.mean, DATA.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.error, stats.sem(DATA.astype(np.float64)), rtol=1e-12)


def test_the_mean_lies_within_two_errors_of_the_truth_nineteen_times_in_twenty():
    draws = np.random.default_rng(1).exponential(size=(2000, 100))
    found = [Average(row) for row in draws]
    inside = np.mean([abs(a.mean - 1) < 1.96 * a.error for a in found])
    # 0.95 ± four standard errors of 2,000 trials, less 0.015 that skewness costs at n = 100.
    assert 0.95 - 0.015 - 4 * (0.95 * 0.05 / 2000) ** 0.5 < inside < 0.97


def test_a_score_and_its_noise_do_not_depend_on_the_size_of_the_batches():
    a, b = (average(noisy, batches(n), jax.random.key(0))["noisy"].values for n in (5, 8))
    np.testing.assert_array_equal(a, b)


def test_progress_counts_the_examples_and_not_the_filling():
    done = []
    average(noisy, batches(8), jax.random.key(0), progress=done.append)
    assert done == [8, 16, len(DATA)]


def test_one_example_has_no_error_and_none_is_refused():
    one = average(noisy, [{"x": DATA[:1]}], jax.random.key(0))["x"]
    assert one.mean == DATA[0]
    assert math.isnan(one.error)
    with pytest.raises(ValueError, match="nothing to average"):
        average(noisy, [], jax.random.key(0))


def test_a_score_that_is_no_number_an_example_is_refused():
    with pytest.raises(ValueError, match=r"give one mean per example: \(\) for a batch of 5"):
        average(lambda keys, batch: {"mean": jnp.mean(batch["x"])}, batches(5), jax.random.key(0))


def test_the_share_below_a_bound():
    assert Average(np.arange(10.0)).below(3) == 3 / 10


def test_the_names_keep_the_order_that_jit_sorts_away():
    def score(keys, batch):
        return {"z": batch["x"], "a": batch["x"] + 1, "m": batch["x"] * 2}

    found = average(ordered_jit(score), batches(5), jax.random.key(0))
    plain = average(score, batches(5), jax.random.key(0))
    assert list(found) == ["z", "a", "m"] != list(jax.jit(score)(None, {"x": DATA}))
    assert {k: v.mean for k, v in found.items()} == {k: v.mean for k, v in plain.items()}
