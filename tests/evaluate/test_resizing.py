"""The one resizing against Pillow's, and what it makes of grey images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.evaluate.features.resizing import in_words, resize, resized_rgb

pytestmark = pytest.mark.heavy


def by_pillow(image, side):
    channels = [
        np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BICUBIC))
        for channel in np.moveaxis(image.astype(np.float32), -1, 0)
    ]
    return np.clip(np.stack(channels, -1), 0, 255)


@pytest.mark.parametrize(
    ("shape", "side"),
    [((28, 28, 1), 64), ((32, 32, 3), 299), ((300, 300, 3), 64), ((45, 70, 3), 32), ((7, 9, 1), 5)],
)
def test_it_resizes_as_pillow_does(shape, side):
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    found = np.asarray(resize(images, side))
    expected = np.stack([by_pillow(image, side) for image in images])
    assert found.dtype == np.float32
    assert found.shape == (2, side, side, shape[-1])
    # Sums of at most 20 × 20 products of 255 in float32, of weights that add up to 1: some ulps.
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * np.spacing(np.float32(255)))


def test_it_filters_before_it_subsamples():
    # Stripes of one pixel: what does not filter sees white or black in place of grey.
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 255
    inside = np.asarray(resize(stripes, 16))[:, 2:-2, 2:-2]
    np.testing.assert_allclose(inside, 127.5, atol=1)


def test_images_of_the_side_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert np.array_equal(resize(images, 16), images)


def test_grey_is_repeated_and_other_channels_are_refused():
    grey = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    found = np.asarray(resized_rgb(jnp.asarray(grey), 12))
    assert found.shape == (2, 12, 12, 3)
    assert np.array_equal(found, np.repeat(resize(grey, 12), 3, -1))
    for shape in ((2, 8, 8, 4), (8, 8, 3)):
        with pytest.raises(ValueError, match="1 or 3"):
            jax.eval_shape(lambda x: resized_rgb(x, 12), jax.ShapeDtypeStruct(shape, jnp.uint8))


def test_a_score_records_it_in_words():
    assert in_words(64) == "bicubic, antialiased, to 64x64; grey repeated to 3 channels"
