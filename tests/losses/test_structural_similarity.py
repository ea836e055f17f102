"""SSIM and MS-SSIM against SciPy's filters in float64 and the formulas of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from genjax.losses.structural_similarity import SCALES, ms_ssim, ssim

pytestmark = pytest.mark.heavy

RNG = np.random.default_rng(0)


def smooth(*shape):
    """Images in −1..1 with structure at several scales."""
    fine, coarse = (ndimage.gaussian_filter(RNG.normal(size=shape), (0, s, s, 0)) for s in (1, 5))
    return np.clip(2 * fine + 8 * coarse, -1, 1).astype(np.float32)


X = smooth(2, 48, 40, 3)
Y = np.clip(X + 0.2 * RNG.normal(size=X.shape), -1, 1).astype(np.float32)


def parts(x, y, std=1.5):
    """Luminance and structure where an 11 x 11 window lies in the image, for a range of 1."""

    def blurred(image):
        # A radius of 5 pixels, as the window has.
        filtered = ndimage.gaussian_filter(image, (0, std, std, 0), truncate=5 / std + 1e-9)
        return filtered[:, 5:-5, 5:-5]

    x, y = (np.asarray(image, np.float64) / 2 + 0.5 for image in (x, y))
    c1, c2 = 0.01**2, 0.03**2
    mu, nu = blurred(x), blurred(y)
    variances = blurred(x * x) - mu**2 + blurred(y * y) - nu**2
    covariance = blurred(x * y) - mu * nu
    luminance = (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def test_ssim_is_the_formula():
    luminance, structure = parts(X, Y)
    np.testing.assert_allclose(ssim(X, Y), (luminance * structure).mean((1, 2, 3)), atol=2e-5)
    np.testing.assert_allclose(ssim(X, X), 1, atol=1e-6)
    # Any range that the images are counted in.
    bytes_ = ssim(127.5 * (X + 1), 127.5 * (Y + 1), low=0.0, high=255.0)
    np.testing.assert_allclose(bytes_, ssim(X, Y), atol=1e-5)
    assert (ssim(X, -X) < 0).all()


def test_ms_ssim_is_the_product_over_scales():
    weights = np.array(SCALES[:2]) / sum(SCALES[:2])
    small, other = (a.reshape(2, 24, 2, 20, 2, 3).mean((2, 4)) for a in (X, Y))
    _, first = parts(X, Y)
    luminance, second = parts(small, other)
    expected = first.mean((1, 2)) ** weights[0] * (luminance * second).mean((1, 2)) ** weights[1]
    found = ms_ssim(X, Y, scales=tuple(weights))
    np.testing.assert_allclose(found, expected.mean(1), atol=2e-5)
    np.testing.assert_allclose(ms_ssim(X, Y, scales=(1.0,)), ssim_per_channel(X, Y), atol=2e-5)


def ssim_per_channel(x, y):
    luminance, structure = parts(x, y)
    return (luminance * structure).mean((1, 2)).mean(1)


def test_the_similarity_falls_with_noise_and_blur_and_has_a_gradient():
    noise = RNG.normal(size=X.shape).astype(np.float32)
    similarity = jax.jit(ssim)
    found = [similarity(X, X + s * noise).mean() for s in (0.0, 0.05, 0.2, 0.8)]
    assert found == sorted(found, reverse=True)
    slope = jax.jit(jax.grad(lambda y: ms_ssim(X, y, scales=(0.5, 0.5)).sum()))
    step = slope(Y)
    assert similarity(X, Y + 10 * step).mean() > similarity(X, Y).mean()
    # Opposite images have negative parts, which count as 0.
    np.testing.assert_array_equal(ms_ssim(X, -X, scales=(0.5, 0.5)) >= 0, True)
    assert jnp.isfinite(slope(-X)).all()
    assert jnp.isfinite(slope(X)).all()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        ssim(X, X[:1])
    with pytest.raises(ValueError, match="176 pixels a side at least"):
        ms_ssim(X, Y)
    with pytest.raises(ValueError, match="11 pixels a side at least"):
        ssim(X[:, :10], Y[:, :10])
    least = jnp.zeros((1, 176, 180, 1))
    assert jax.eval_shape(ms_ssim, least, least).shape == (1,)
