"""The augmentations against every possible result, and its frequency."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from genjax.losses import augmentation as aug

EPS32 = float(np.finfo(np.float32).eps)
BATCH, SIDE, CHANNELS = 8, 6, 3
KEY = jax.random.key(0)
MANY = 3000

IMAGES = np.random.default_rng(0).normal(size=(BATCH, SIDE, SIDE, CHANNELS)).astype(np.float32)

AUGMENTATIONS = {
    "brightness": aug.brightness,
    "saturation": aug.saturation,
    "contrast": aug.contrast,
    "translation": aug.translation,
    "cutout": aug.cutout,
    "horizontal_flip": aug.horizontal_flip,
    "rotate90": aug.rotate90,
    "color": aug.color,
    "diff_augment": aug.diff_augment,
}
EACH = pytest.mark.parametrize("name", AUGMENTATIONS)

OFF = {
    "brightness": partial(aug.brightness, strength=0.0),
    "saturation": partial(aug.saturation, strength=0.0),
    "contrast": partial(aug.contrast, strength=0.0),
    "translation": partial(aug.translation, ratio=0.0),
    "cutout": partial(aug.cutout, ratio=0.0),
    "horizontal_flip": partial(aug.horizontal_flip, probability=0.0),
    "rotate90": partial(aug.rotate90, probability=0.0),
}


def many_copies(height=SIDE, width=SIDE):
    """One image of distinct positive numbers, MANY times over."""
    image = np.arange(1, height * width + 1, dtype=np.float32).reshape(1, height, width, 1)
    return image[0], np.repeat(image, MANY, axis=0)


def which(outcomes, results):
    """For each image the index of the outcome it equals; raises if it equals none."""
    index = {np.asarray(outcome).tobytes(): i for i, outcome in enumerate(outcomes)}
    return np.array([index[image.tobytes()] for image in np.asarray(results)])


def assert_uniform(samples, low, high):
    assert kstest(samples, "uniform", args=(low, high - low)).pvalue > 1e-3


# What is drawn


def test_brightness_adds_one_uniform_number_to_an_image():
    images = np.zeros((MANY, 2, 2, CHANNELS), np.float32)
    change = np.asarray(aug.brightness(images, KEY, strength=0.3))
    np.testing.assert_array_equal(change, np.broadcast_to(change[:, :1, :1, :1], change.shape))
    assert_uniform(change[:, 0, 0, 0], -0.3, 0.3)


@pytest.mark.parametrize(
    ("augment", "axes"), [(aug.saturation, 3), (aug.contrast, (1, 2, 3))], ids=["sat", "contrast"]
)
def test_saturation_and_contrast_stretch_about_the_mean_by_one_uniform_factor(augment, axes):
    images = np.random.default_rng(1).normal(size=(MANY, 2, 2, CHANNELS)).astype(np.float32)
    ours = np.asarray(augment(images, KEY, strength=0.4), float)
    mean = images.mean(axes, keepdims=True, dtype=float)
    factor = ((ours - mean) * (images - mean)).sum((1, 2, 3)) / ((images - mean) ** 2).sum(
        (1, 2, 3)
    )
    expected = mean + factor[:, None, None, None] * (images - mean)
    np.testing.assert_allclose(ours, expected, atol=8 * EPS32 * np.abs(images).max())
    assert_uniform(factor, 0.6, 1.4)


def test_grey_images_have_no_saturation_to_change():
    grey = np.repeat(IMAGES[..., :1], CHANNELS, axis=-1)
    # A mean of three equal numbers may be a last place off.
    np.testing.assert_allclose(aug.saturation(grey, KEY), grey, rtol=4 * EPS32)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 8)])
def test_translation_draws_every_shift_equally_often_and_pads_with_zeros(height, width):
    ratio = 0.25
    image, images = many_copies(height, width)
    rows, columns = (int(size * ratio + 0.5) for size in (height, width))
    outcomes = []
    for down in range(-rows, rows + 1):
        for right in range(-columns, columns + 1):
            shifted = np.zeros_like(image)
            for i in range(height):
                for j in range(width):
                    if 0 <= i - down < height and 0 <= j - right < width:
                        shifted[i, j] = image[i - down, j - right]
            outcomes.append(shifted)
    found = which(outcomes, aug.translation(images, KEY, ratio=ratio))
    assert chisquare(np.bincount(found, minlength=len(outcomes))).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width", "ratio"), [(4, 4, 0.5), (6, 5, 0.5), (3, 3, 1.0)])
def test_cutout_zeroes_the_rectangles_of_the_reference_code_with_their_frequencies(
    height, width, ratio
):
    image, images = many_copies(height, width)
    sizes = [int(size * ratio + 0.5) for size in (height, width)]
    counts = {}
    # As in the reference code: a corner from a range of centres, indices clamped to the image.
    for top in range(height + 1 - sizes[0] % 2):
        for left in range(width + 1 - sizes[1] % 2):
            cut = image.copy()
            i = np.clip(np.arange(sizes[0]) + top - sizes[0] // 2, 0, height - 1)
            j = np.clip(np.arange(sizes[1]) + left - sizes[1] // 2, 0, width - 1)
            cut[np.ix_(i, j)] = 0
            counts.setdefault(cut.tobytes(), [cut, 0])[1] += 1
    outcomes, weights = zip(*counts.values(), strict=True)
    found = which(outcomes, aug.cutout(images, KEY, ratio=ratio))
    expected = MANY * np.array(weights) / sum(weights)
    assert chisquare(np.bincount(found, minlength=len(outcomes)), expected).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_flips_have_the_given_probability(probability):
    image, images = many_copies()
    ours = aug.horizontal_flip(images, KEY, probability=probability)
    flipped = which([image, image[:, ::-1]], ours)
    error = np.sqrt(probability * (1 - probability) / MANY)
    assert abs(flipped.mean() - probability) <= 4 * error


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_quarter_turns_are_equally_frequent(probability):
    image, images = many_copies()
    outcomes = [np.rot90(image, k) for k in range(4)]
    turns = which(outcomes, aug.rotate90(images, KEY, probability=probability))
    share = np.full(4, probability / 4)
    share[0] += 1 - probability
    assert chisquare(np.bincount(turns, minlength=4), MANY * share).pvalue > 1e-3


@pytest.mark.heavy
def test_diff_augment_is_its_parts_in_turn_each_with_its_own_key():
    first, second, third = jax.random.split(KEY, 3)
    expected = aug.cutout(aug.translation(aug.color(IMAGES, first), second), third)
    np.testing.assert_array_equal(aug.diff_augment(IMAGES, KEY), expected)
    first, second, third = jax.random.split(KEY, 3)
    expected = aug.contrast(aug.saturation(aug.brightness(IMAGES, first), second), third)
    np.testing.assert_array_equal(aug.color(IMAGES, KEY), expected)


# Strength, keys


@pytest.mark.parametrize("name", OFF)
def test_zero_strength_is_the_identity_bit_for_bit(name):
    np.testing.assert_array_equal(OFF[name](IMAGES, KEY), IMAGES)


@EACH
def test_augmentation_is_a_function_of_the_key(name):
    augment = AUGMENTATIONS[name]
    ours = augment(IMAGES, KEY)
    assert ours.shape == IMAGES.shape
    np.testing.assert_array_equal(augment(IMAGES, KEY), ours)
    assert np.any(augment(IMAGES, jax.random.key(1)) != ours)
    # Within a batch, examples are treated differently.
    alike = np.asarray(augment(np.repeat(IMAGES[:1], BATCH, axis=0), KEY))
    assert np.any(alike[1:] != alike[:1])


def every_picture(images, key):
    """All of them at once, since compiling is what costs here."""
    return {name: augment(images, key) for name, augment in AUGMENTATIONS.items()}


@pytest.mark.heavy
def test_augmentation_is_per_example_under_jit_vmap_pmap_and_permutation():
    keys = jax.random.split(KEY, BATCH)
    jitted = jax.jit(every_picture)
    forward, backward = jitted(IMAGES, keys), jitted(IMAGES[::-1], keys[::-1])
    # Devices, and on each a stack of one batch of one.
    mapped = jax.pmap(jax.vmap(every_picture))(IMAGES[:, None, None], keys[:, None, None])
    for name, plain in every_picture(IMAGES, keys).items():
        close = {"rtol": 1e-5, "atol": 1e-5, "err_msg": name}
        np.testing.assert_allclose(forward[name], plain, **close)
        np.testing.assert_allclose(mapped[name][:, 0, 0], plain, **close)
        np.testing.assert_allclose(backward[name], plain[::-1], **close)


def test_raw_keys_are_accepted():
    keys = jax.random.split(KEY, BATCH)
    for key in (KEY, keys):
        old = aug.diff_augment(IMAGES, jax.random.key_data(key))
        np.testing.assert_array_equal(old, aug.diff_augment(IMAGES, key))


# Gradients and types


@pytest.mark.heavy
def test_gradients_equal_finite_differences_example_by_example():
    keys = jax.random.split(KEY, BATCH)
    direction, weights = np.random.default_rng(2).normal(size=(2, *IMAGES.shape))

    @jax.jit
    def run(images):
        values, pull_back = jax.vjp(lambda images: every_picture(images, keys), images)
        one_hot = {name: jnp.eye(len(values))[i] for i, name in enumerate(values)}
        cotangents = {
            name: hot[:, None, None, None, None] * jnp.asarray(weights, jnp.float32)[None]
            for name, hot in one_hot.items()
        }
        (slopes,) = jax.vmap(pull_back)(cotangents)
        return values, dict(zip(values, slopes, strict=True))

    values, slopes = run(IMAGES)
    moved, _ = run((IMAGES + direction).astype(np.float32))
    for name, slope in slopes.items():
        # An augmentation is affine in the image, so that a step of 1 has no truncation error.
        change = np.asarray(moved[name], float) - values[name]
        expected = (change * weights).sum((1, 2, 3))
        ours = (np.asarray(slope, float) * direction).sum((1, 2, 3))
        # Rounding of sums of about a hundred terms of order 1.
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.all(np.abs(slope).sum((1, 2, 3)) > 0)


@pytest.mark.parametrize("name", OFF)
def test_bfloat16_images_are_rounded_once_at_the_end(name):
    half = jnp.asarray(IMAGES, jnp.bfloat16)
    ours = AUGMENTATIONS[name](half, KEY)
    assert ours.dtype == jnp.bfloat16
    wide = AUGMENTATIONS[name](half.astype(jnp.float32), KEY)
    np.testing.assert_array_equal(ours, wide.astype(jnp.bfloat16))


# Bad input


@EACH
@pytest.mark.parametrize(
    "images", [np.zeros((4, 4, 3), np.float32), np.zeros((2, 4, 4, 3), np.uint8)]
)
def test_anything_but_a_batch_of_float_images_raises(name, images):
    with pytest.raises(ValueError, match="floats") as error:
        AUGMENTATIONS[name](images, KEY)
    assert str(images.shape) in str(error.value)


@EACH
def test_a_wrong_number_of_keys_raises_naming_both(name):
    with pytest.raises(ValueError, match="3 keys for 8"):
        AUGMENTATIONS[name](IMAGES, jax.random.split(KEY, 3))


def test_quarter_turns_of_non_square_images_raise():
    with pytest.raises(ValueError, match=r"\(8, 5, 6, 3\)"):
        aug.rotate90(IMAGES[:, 1:], KEY)


@pytest.mark.heavy
def test_binarized_pixels_are_bernoulli_of_their_grey_value():
    grey = jnp.tile(jnp.array([0.0, 0.2, 0.7, 1.0]), (1000, 1)).reshape(1000, 2, 2, 1)
    keys = jax.random.split(jax.random.key(0), 1000)
    drawn = aug.binarize(grey, keys)
    assert jnp.all((drawn == 0) | (drawn == 1))
    mean, error = drawn.mean(0).ravel(), jnp.sqrt(grey[0] * (1 - grey[0]) / 1000).ravel()
    assert jnp.all(jnp.abs(mean - grey[0].ravel()) <= 4 * error)
    np.testing.assert_array_equal(aug.binarize(grey[:1], keys[0])[0], drawn[0])
