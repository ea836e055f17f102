"""Bands and coverage of answers whose posterior is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from genjax.edit import operators, uncertainty

pytestmark = pytest.mark.heavy

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def answers():
    """Truths, 99 posterior samples, the mean and the covariance of N(0, C) images behind a mask."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(16, 16)) / 4 + 0.2
    keep = np.ones((4, 4), bool)
    keep[:, 2:] = False
    covariance, noise = root @ root.T, 0.3
    a = np.eye(16)[keep.ravel()]
    gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T + noise**2 * np.eye(8))
    left = np.linalg.cholesky(covariance - gain @ a @ covariance + 1e-12 * np.eye(16))
    x = rng.normal(size=(400, 16)) @ root.T
    y = np.asarray(operators.mask(SHAPE, keep)(jnp.float32(x.reshape(400, *SHAPE))))
    y = y.reshape(400, 16)[:, keep.ravel()] + noise * rng.normal(size=(400, 8))
    mean = y @ gain.T
    samples = mean + rng.normal(size=(99, 400, 16)) @ left.T
    return x, samples, mean, left @ left.T


def floats(x):
    return jnp.asarray(x, jnp.float32)


def test_the_summary_is_that_of_the_posterior(answers):
    _, samples, mean, covariance = answers
    found = jax.jit(uncertainty.summarize)(floats(samples))
    std = np.diag(covariance) ** 0.5
    z = (np.asarray(found.mean) - mean) / (std / 99**0.5)
    assert np.std(z) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose((found.spread**2).mean(0), std**2, rtol=0.03)
    # Order statistics 5 and 95 of 99.
    ordered = np.sort(samples, axis=0)
    np.testing.assert_allclose(found.low, ordered[4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.high, ordered[94], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [2, 7, 19, 32, 99])
def test_posterior_samples_cover_at_their_level(answers, n):
    x, samples, *_ = answers
    found = uncertainty.coverage(floats(samples[:n]), floats(x))
    assert found.low < 0.9 < found.high
    assert float(found.high - found.low) < 0.04  # 400 images
    if n >= 19:
        band = uncertainty.summarize(floats(samples[:n]))
        inside = float(((band.low <= x) & (x <= band.high)).mean())
        if n in (19, 99):
            assert inside == pytest.approx(float(found.share), abs=1e-6)
        else:
            assert 0.89 < inside < 0.92


@pytest.mark.parametrize(("n", "excess"), [(19, 0.0), (20, 0.002), (28, 0.009), (50, 0.003)])
def test_the_band_covers_as_its_page_says(n, excess):
    z = jnp.float32(np.random.default_rng(1).normal(size=(n, 100_000)))
    band = uncertainty.summarize(z)
    held = scipy.stats.norm.cdf(band.high) - scipy.stats.norm.cdf(band.low)
    assert held.mean() == pytest.approx(0.9 + excess, abs=0.001)


def test_answers_too_sure_or_too_vague_are_found_out(answers):
    x, samples, mean, _ = answers
    for factor in (0.5, 2.0):
        found = uncertainty.coverage(floats(mean + factor * (samples - mean)), floats(x))
        # P(|N(0, 1)| < 1.645 factor), less what 99 answers do not know about the quantiles.
        right = 2 * scipy.stats.norm.cdf(1.645 * factor) - 1
        assert float(found.share) == pytest.approx(right, abs=0.02)
        assert not found.low < 0.9 < found.high


def test_pixels_known_exactly_count_at_the_level_and_can_be_skipped(answers):
    x, samples, *_ = answers
    known = np.arange(16) < 8
    same = np.where(known, x, samples[:19])
    found = uncertainty.coverage(floats(same), floats(x))
    assert float(found.share) == pytest.approx(0.9, abs=0.01)
    hidden = uncertainty.coverage(floats(same), floats(x), where=floats(~known)[None])
    right = uncertainty.coverage(floats(samples[:19, :, 8:]), floats(x[:, 8:]))
    np.testing.assert_allclose(hidden.per_image, right.per_image, rtol=1e-6)
    # Grey levels, many of them equal: still the level.
    coarse = uncertainty.coverage(floats(samples[:19].round()), floats(x.round()))
    assert coarse.low < 0.9 < coarse.high


def test_the_interval_over_images_is_students_and_covers(answers):
    x, samples, *_ = answers
    cover = jax.jit(uncertainty.coverage)
    found = [
        cover(floats(samples[:19, i : i + 10]), floats(x[i : i + 10])) for i in range(0, 400, 10)
    ]
    shares = np.asarray(found[0].per_image, np.float64)
    right = scipy.stats.t.interval(0.95, 9, shares.mean(), scipy.stats.sem(shares))
    np.testing.assert_allclose(
        [found[0].low, found[0].high], [right[0], min(right[1], 1)], rtol=1e-4
    )
    held = sum(bool(each.low < 0.9 < each.high) for each in found)
    assert held >= 33  # of 40 at 95 %: 38 expected, less with probability 0.003


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: uncertainty.summarize(jnp.zeros((16, 4))),
            "16 answers hold a band of at most 88 %",
        ),
        (lambda: uncertainty.summarize(jnp.zeros((16, 4))), "90 % needs 19 answers"),
        (lambda: uncertainty.summarize(jnp.zeros((16, 4)), 1.0), "between 0 and 1"),
        (lambda: uncertainty.summarize(jnp.zeros((19, 4), int)), "floats"),
        (lambda: uncertainty.coverage(jnp.zeros((5, 4)), jnp.zeros((3, 4))), "n answers each"),
        (lambda: uncertainty.coverage(jnp.zeros((5, 1, 4)), jnp.zeros((1, 4))), "two images"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
