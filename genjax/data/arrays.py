"""Data sets made of arrays of images and labels, with strict checks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from genjax.data import array_checks
from genjax.data.dataset import Dataset
from genjax.data.errors import DataError
from genjax.data.images import images_from_arrays
from genjax.data.settings import ARRAYS, DataSettings

logger = logging.getLogger(__name__)


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    test: tuple[Any, Any] | Any = None,
    names: Sequence[str] | None = None,
) -> Dataset:
    """A data set of arrays.

    Args:
      images: uint8, or floating point in 0..1, which is rounded to 256 levels; [N, H, W, C] with C
        of 1 or 3.
      labels: integers 0 to K − 1 or strings, a list or an array [N]; None for none.
      test: the held-out images, or a pair (images, labels). None: one image in ten of each class
        is held out, at random by a fixed seed.
      names: the K classes by name, in the order of the numbers. None: the numbers, or the strings
        in sorted order.

    Returns:
      The data set, its splits "train" and "test".

    Raises:
      DataError: where images or labels are ambiguous: their layout, range, number or names.
    """
    image = array_checks.pixels(images, "images")
    label, classes = array_checks.classes(labels, len(image), names)
    if test is None:
        held_out = array_checks.held_out(len(image), label)
        parts = {"train": ~held_out, "test": held_out}
        pixels = {split: image[rows] for split, rows in parts.items()}
        numbers = {split: None if label is None else label[rows] for split, rows in parts.items()}
        logger.info("%d of %d images are held out", held_out.sum(), len(image))
    else:
        pair = test if isinstance(test, tuple) else (test, None)
        if len(pair) != 2 or (label is None) != (pair[1] is None):
            raise DataError("test must be images, or (images, labels) where there are labels")
        other = array_checks.pixels(pair[0], "test images")
        if other.shape[1:] != image.shape[1:]:
            raise DataError(f"test images are {other.shape[1:]}, the others {image.shape[1:]}")
        theirs = None if label is None else array_checks.numbers(pair[1], len(other), classes)
        pixels, numbers = {"train": image, "test": other}, {"train": label, "test": theirs}
    splits = {
        split: images_from_arrays(
            pixels[split], numbers[split], name=ARRAYS, split=split, classes=classes
        )
        for split in pixels
    }
    return Dataset(DataSettings(ARRAYS), splits)
