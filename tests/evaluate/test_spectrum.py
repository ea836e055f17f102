"""Blur and checkerboards: found where they were planted, ranked, and not in real images."""

import numpy as np
import pytest
from scipy import stats

from genjax.evaluate import spectrum
from tools import audit_powers, planted

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def rows():
    data = audit_powers.fashion()
    found = audit_powers.faults_found(data["test_images"], data["train_images"][:1000], 30, 500, 0)
    return {name: [float(x.removesuffix(" %")) for x in row] for name, *row in found}


def test_planted_blur_is_found_and_ranked(rows):
    blurs = [rows[f"blur, sigma {s}"] for s in ("0.5", "1", "2")]
    assert [found for found, _, _ in blurs] == [100, 100, 100]
    sharp = [rows["none"][2], *(sharpness for _, _, sharpness in blurs)]
    assert sharp == sorted(sharp, reverse=True)
    assert 0.9 < sharp[0] < 1.1


def test_a_planted_checkerboard_is_found_and_blur_is_none(rows):
    for amplitude in (4, 8):
        assert rows[f"checkerboard of {amplitude} grey levels, period 2"][1] == 100
    assert all(found[1] <= 5 for name, found in rows.items() if "checkerboard" not in name)
    assert rows["none"][:2] == [0, 0]


def test_a_checkerboard_of_period_four_is_found_in_smooth_images():
    ramp = np.linspace(60, 180, 32).astype(np.uint8)
    smooth = np.tile(ramp, (64, 32, 1))[..., None]
    smooth = smooth + np.random.default_rng(0).integers(0, 3, smooth.shape).astype(np.uint8)
    real, theirs = (spectrum.frequencies(x) for x in (smooth, planted.checkered(smooth, 8, 4)))
    finding = spectrum.checkerboard(theirs, real)
    assert finding.found
    assert finding.numbers["period_4_low"] > 2
    assert not spectrum.checkerboard(real, real).found


def test_white_noise_has_the_same_power_in_every_ring():
    noise = np.random.default_rng(0).normal(128, 20, (200, 32, 32, 1)).round().astype(np.uint8)
    found = spectrum.frequencies(noise)
    expected = np.log((20**2 + 1 / 12) / 255**2)
    # The mean of the logarithm of an average over k bins is lower by about 1/(2k), and the mean
    # that was taken away is missing in the lowest ring.
    np.testing.assert_allclose(found.bands.mean(0)[2:], expected, atol=0.08)
    assert np.exp(found.sharpness.mean()) == pytest.approx(20 * 20**2 / 255**2, rel=0.05)
    # The mean logarithm of a single bin, of an exponential distribution, is below that of a mean.
    assert (found.lattice.mean(0) < 0).all()
    assert len(spectrum.ring_centres(32, 32)) == found.bands.shape[1]


def test_a_flat_image_has_the_power_of_rounding_to_8_bits():
    found = spectrum.frequencies(np.full((2, 16, 16, 1), 90, np.uint8))
    rounding = 1 / 255**2 / 12  # the variance of a step's uniform error
    np.testing.assert_allclose(np.exp(found.bands), rounding, rtol=1e-4)
    np.testing.assert_allclose(np.exp(found.sharpness), 20 * rounding, rtol=1e-4)


def test_the_interval_of_a_ratio_is_welchs():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=30), generator.normal(size=(80,)) * 3
    found = spectrum.ratio(x, y, 0.05)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(np.log([found.low, found.high]), expected, rtol=1e-9)


def test_noise_is_more_than_the_data_has_and_no_blur():
    x = audit_powers.fashion()["train_images"][:200].astype(int)
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 30, x.shape), 0, 255).astype(np.uint8)
    finding = spectrum.blur(*(spectrum.frequencies(a) for a in (noisy, x.astype(np.uint8))))
    assert not finding.found
    assert "more than the data has" in finding.summary


def test_too_small_and_too_few_images():
    with pytest.raises(ValueError, match="8 pixels a side"):
        spectrum.frequencies(np.zeros((4, 7, 32, 1), np.uint8))
    few = spectrum.frequencies(np.random.default_rng(0).integers(0, 255, (9, 8, 8, 3), np.uint8))
    assert not spectrum.blur(few, few).decided
