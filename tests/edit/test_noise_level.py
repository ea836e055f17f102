"""The estimated noise of observations whose noise is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from genjax.edit import noise_level, operators

pytestmark = pytest.mark.heavy

NOISE = jax.random.normal(jax.random.key(0), (16, 32, 32, 3))
I, J = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij")
# A ramp with an upright and a level edge: what the differences do not see, but for two corners.
SCENE = (I / 32 - J / 64 + (J > 12) - 0.5 * (I > 20))[None, ..., None]


def test_the_noise_of_a_simple_scene_is_found():
    for std in (0.02, 0.1, 0.5):
        found = jax.jit(noise_level.estimate)(SCENE + std * NOISE)
        # 2,700 differences per image, whose median has a relative error of about 4 %.
        np.testing.assert_allclose(found / std, jnp.ones(16), atol=0.15)
        assert float(found.mean()) == pytest.approx(std, rel=0.02)
    assert not noise_level.estimate(SCENE).any()


def test_a_quarter_of_the_pixels_may_be_anything():
    y = jnp.where((J < 8)[None, ..., None], 50 * NOISE, SCENE + 0.1 * NOISE)
    assert float(noise_level.estimate(y).mean()) == pytest.approx(0.1, rel=0.6)
    assert float(noise_level.estimate(y, keep=J >= 8).mean()) == pytest.approx(0.1, rel=0.02)


def test_what_a_mask_hides_does_not_count():
    for operator_keep in (J < 20, jax.random.bernoulli(jax.random.key(1), 0.8, (32, 32, 3))):
        y = operators.mask((32, 32, 3), operator_keep)(SCENE + 0.1 * NOISE)
        found = noise_level.estimate(y, keep=operator_keep)
        assert float(found.mean()) == pytest.approx(0.1, rel=0.04)
    assert jnp.isnan(noise_level.estimate(y, keep=jnp.zeros((32, 32)).at[0].set(1))).all()


def test_the_noise_of_a_downsampled_image_is_that_of_the_small_image():
    y = operators.downsample_area((32, 32, 3), 2)(SCENE.repeat(3, 3) + 0 * NOISE)
    found = noise_level.estimate(y + 0.1 * NOISE[:, :16, :16])
    assert float(found.mean()) == pytest.approx(0.1, rel=0.05)
    # Noise added before, not after: the mean of four pixels has half of it.
    found = noise_level.estimate(operators.downsample_area((32, 32, 3), 2)(SCENE + 0.1 * NOISE))
    assert float(found.mean()) == pytest.approx(0.05, rel=0.1)


def test_real_strokes_raise_the_estimate_by_what_the_page_says():
    """Handwritten digits of 8 x 8 pixels: nothing but strokes, the hardest case there is."""
    x = jnp.float32(load_digits().images[:200, ..., None] / 8 - 1)
    noise = jax.random.normal(jax.random.key(2), x.shape)
    found = jnp.stack([noise_level.estimate(x + s * noise).mean() for s in (0, 0.5, 1)])
    np.testing.assert_allclose(found, jnp.array([0.26, 0.59, 1.05]), atol=0.01)


def test_the_estimate_is_near_scikit_images():
    pytest.importorskip("pywt")
    restoration = pytest.importorskip("skimage.restoration")
    y = np.asarray(SCENE + 0.2 * NOISE)
    right = [restoration.estimate_sigma(each, channel_axis=-1, average_sigmas=True) for each in y]
    found = noise_level.estimate(jnp.asarray(y))
    assert float(found.mean()) == pytest.approx(np.mean(right), rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_level.estimate(jnp.zeros((1, 2, 8, 1))), "3 x 3 pixels at least"),
        (lambda: noise_level.estimate(jnp.zeros((1, 8, 8, 1), int)), "floats"),
        (lambda: noise_level.estimate(NOISE, jnp.ones((4, 4))), r"mask has shape \(4, 4, 1\)"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
