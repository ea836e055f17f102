"""Averages: mean and standard error, for any batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.evaluate.average import Average, OrderedJit, average

DATA = np.random.default_rng(0).exponential(size=23).astype(np.float32)


def batches(size):
    for start in range(0, len(DATA), size):
        rows = np.arange(start, start + size)
        yield {"x": DATA[rows % len(DATA)], "mask": rows < len(DATA)}


def noisy(keys, batch):
    return {"noisy": batch["x"] + jax.vmap(jax.random.normal)(keys), "x": batch["x"]}


def test_mean_and_standard_error_match_their_formulas():
    found = average(noisy, batches(5), jax.random.key(0))["x"]
    assert found.n == len(DATA)
    np.testing.assert_allclose(found.mean, DATA.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.error, stats.sem(DATA.astype(np.float64)), rtol=1e-12)


def test_two_standard_errors_cover_the_true_mean_95_percent_of_the_time():
    draws = np.random.default_rng(1).exponential(size=(2000, 100))
    found = [Average(row) for row in draws]
    inside = np.mean([abs(a.mean - 1) < 1.96 * a.error for a in found])
    # 0.95 ± four standard errors of 2,000 trials, less 0.015 that skewness costs at n = 100.
    assert 0.95 - 0.015 - 4 * (0.95 * 0.05 / 2000) ** 0.5 < inside < 0.97


def test_scores_and_their_noise_do_not_depend_on_the_batch_size():
    a, b = (average(noisy, batches(n), jax.random.key(0))["noisy"].values for n in (5, 8))
    np.testing.assert_array_equal(a, b)


def test_progress_counts_examples_without_padding():
    done = []
    average(noisy, batches(8), jax.random.key(0), progress=done.append)
    assert done == [8, 16, len(DATA)]


def test_one_example_has_no_standard_error_and_an_empty_set_raises():
    one = average(noisy, [{"x": DATA[:1]}], jax.random.key(0))["x"]
    assert one.mean == DATA[0]
    assert math.isnan(one.error)
    with pytest.raises(ValueError, match="nothing to average"):
        average(noisy, [], jax.random.key(0))


def test_a_score_without_one_value_per_example_raises():
    with pytest.raises(ValueError, match=r"give one mean per example: \(\) for a batch of 5"):
        average(lambda keys, batch: {"mean": jnp.mean(batch["x"])}, batches(5), jax.random.key(0))


def test_below_is_the_share_of_examples_under_a_bound():
    assert Average(np.arange(10.0)).below(3) == 3 / 10


def test_an_ordered_jit_keeps_the_order_of_names():
    def score(keys, batch):
        return {"z": batch["x"], "a": batch["x"] + 1, "m": batch["x"] * 2}

    found = average(OrderedJit(score), batches(5), jax.random.key(0))
    plain = average(score, batches(5), jax.random.key(0))
    assert list(found) == ["z", "a", "m"] != list(jax.jit(score)(None, {"x": DATA}))
    assert {k: v.mean for k, v in found.items()} == {k: v.mean for k, v in plain.items()}
