"""Data sets of arrays: valid inputs, the held-out images, and ambiguous arrays, which raise."""

import numpy as np
import pytest

from genjax.data import DataError, from_arrays

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 4, 5, 3), np.uint8)
LABELS = np.arange(40) % 4


def together(images):
    return np.concatenate([images.train.source.image, images.test.source.image])


def test_one_image_in_ten_of_each_class_is_held_out():
    images = from_arrays(PIXELS, LABELS)
    assert (len(images.train), len(images.test)) == (36, 4)
    np.testing.assert_array_equal(np.bincount(images.test.source.label), [1, 1, 1, 1])
    found = {x.tobytes() for x in together(images)}
    assert found == {x.tobytes() for x in PIXELS}
    again = from_arrays(PIXELS, LABELS)
    assert again.train.fingerprint == images.train.fingerprint


def test_labels_follow_their_images():
    images = from_arrays(PIXELS, LABELS)
    number = {x.tobytes(): label for x, label in zip(PIXELS, LABELS, strict=True)}
    for split in (images.train, images.test):
        expected = [number[x.tobytes()] for x in split.source.image]
        np.testing.assert_array_equal(split.source.label, expected)
    assert images.train.classes == ("0", "1", "2", "3")
    assert images.spec.classes == 4
    assert images.spec.shape == (4, 5, 3)
    assert images.spec.count == 36


def test_few_images_have_at_least_one_test_image():
    images = from_arrays(PIXELS[:3])
    assert (len(images.train), len(images.test)) == (2, 1)
    assert images.train.num_classes == 0


def test_floating_point_in_0_to_1_is_rounded_to_256_levels():
    images = from_arrays(
        np.array([0, 0.5, 1, 0.1], np.float32).reshape(4, 1, 1, 1), test=PIXELS[:1, :1, :1, :1]
    )
    np.testing.assert_array_equal(images.train.source.image.ravel(), [0, 128, 255, 26])


def test_string_labels_are_classes_in_sorted_or_given_order():
    labels = ["dog", "cat"] * 20
    assert from_arrays(PIXELS, labels).train.classes == ("cat", "dog")
    named = from_arrays(
        PIXELS, labels, names=["dog", "cat", "bird"], test=(PIXELS[:2], ["cat", "dog"])
    )
    assert named.train.classes == ("dog", "cat", "bird")
    np.testing.assert_array_equal(named.train.source.label, [0, 1] * 20)
    np.testing.assert_array_equal(named.test.source.label, [1, 0])


def test_given_test_images_are_used_unchanged():
    images = from_arrays(PIXELS, LABELS.tolist(), test=(PIXELS[:3], [3, 0, 1]))
    assert (len(images.train), len(images.test)) == (40, 3)
    np.testing.assert_array_equal(images.test.source.image, PIXELS[:3])
    np.testing.assert_array_equal(images.test.source.label, [3, 0, 1])


REFUSED = {
    "channels first": ((PIXELS.transpose(0, 3, 1, 2),), {}, r"transpose\(0, 2, 3, 1\)"),
    "no channels": ((PIXELS[..., 0],), {}, r"\[N, H, W, C\]"),
    "four channels": ((np.zeros((2, 4, 4, 4), np.uint8),), {}, "C of 1 or 3"),
    "none": ((PIXELS[:0],), {}, "N > 0"),
    "one": ((PIXELS[:1],), {}, "cannot be split"),
    "another type": ((PIXELS.astype(np.int32),), {}, "uint8, or floating point"),
    "0 to 255 as floats": ((PIXELS.astype(float),), {}, "0..1"),
    "-1 to 1": ((PIXELS / 127.5 - 1,), {}, r"\(x \+ 1\) / 2"),
    "not a number": ((np.full((2, 1, 1, 1), np.nan),), {}, "0..1"),
    "half labels": ((PIXELS, LABELS + 0.5), {}, "integers or strings, not float64"),
    "integer labels as floats": ((PIXELS, LABELS.astype(float)), {}, "integers or strings"),
    "booleans": ((PIXELS, LABELS > 1), {}, "integers or strings"),
    "too few labels": ((PIXELS, LABELS[:-1]), {}, "one label per image, 40"),
    "from one on": ((PIXELS, LABELS + 1), {}, "no image has the label 0"),
    "negative labels": ((PIXELS, LABELS - 1), {}, "labels must lie in"),
    "beyond the names": ((PIXELS, LABELS), {"names": ["a", "b"]}, r"0\.\.1"),
    "a name twice": ((PIXELS, LABELS), {"names": ["a", "b", "a", "c"]}, "same name"),
    "an unknown name": ((PIXELS, ["x"] * 40), {"names": ["a"]}, "no class is named 'x'"),
    "names alone": ((PIXELS,), {"names": ["a"]}, "no labels"),
    "test without labels": ((PIXELS, LABELS), {"test": PIXELS[:2]}, "where there are labels"),
    "test labels alone": ((PIXELS,), {"test": (PIXELS[:2], LABELS[:2])}, "where there are labels"),
    "test of another size": ((PIXELS,), {"test": PIXELS[:2, :2]}, "test images are"),
    "test labels beyond": ((PIXELS, LABELS), {"test": (PIXELS[:2], [0, 4])}, r"0\.\.3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_ambiguous_arrays_raise_with_one_line(case):
    given, options, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as raised:
        from_arrays(*given, **options)
    assert "\n" not in str(raised.value)


def test_arrays_have_no_other_split():
    with pytest.raises(DataError, match="no split 'train"):
        from_arrays(PIXELS).split("train[:10%]")
