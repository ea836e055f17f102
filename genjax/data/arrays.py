"""Data sets made of arrays of images and labels, with strict checks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

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
    image = _pixels(images, "images")
    label, classes = _classes(labels, len(image), names)
    if test is None:
        held_out = _held_out(len(image), label)
        parts = {"train": ~held_out, "test": held_out}
        pixels = {split: image[rows] for split, rows in parts.items()}
        numbers = {split: None if label is None else label[rows] for split, rows in parts.items()}
        logger.info("%d of %d images are held out", held_out.sum(), len(image))
    else:
        pair = test if isinstance(test, tuple) else (test, None)
        if len(pair) != 2 or (label is None) != (pair[1] is None):
            raise DataError("test must be images, or (images, labels) where there are labels")
        other = _pixels(pair[0], "test images")
        if other.shape[1:] != image.shape[1:]:
            raise DataError(f"test images are {other.shape[1:]}, the others {image.shape[1:]}")
        theirs = None if label is None else _numbers(pair[1], len(other), classes)
        pixels, numbers = {"train": image, "test": other}, {"train": label, "test": theirs}
    splits = {
        split: images_from_arrays(
            pixels[split], numbers[split], name=ARRAYS, split=split, classes=classes
        )
        for split in pixels
    }
    return Dataset(DataSettings(ARRAYS), splits)


def _pixels(images: Any, what: str) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim == 4 and array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3):
        raise DataError(
            f"{what} of shape {array.shape} look like [N, C, H, W]: give [N, H, W, C], as by "
            "x.transpose(0, 2, 3, 1)"
        )
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise DataError(
            f"{what} must be [N, H, W, C] with N > 0 and C of 1 or 3, got {array.shape}"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{what} must be uint8, or floating point in 0..1, not {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # a NaN is neither
        raise DataError(
            f"floating-point {what} must lie in 0..1, these in {low:g}..{high:g}: scale them, as by"
            " (x + 1) / 2 or x / 255"
        )
    return np.rint(array * 255).astype(np.uint8)


def _classes(
    labels: Any, count: int, names: Sequence[str] | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Class numbers int32 [N] and the names of the classes."""
    if labels is None:
        if names is not None:
            raise DataError("there are names of classes, but no labels")
        return None, ()
    given = np.asarray(labels)
    if names is None:
        if given.dtype.kind == "U":
            names = sorted(set(given.ravel().tolist()))
        elif np.issubdtype(given.dtype, np.integer) and given.size and given.min() >= 0:
            used = np.unique(given)
            if len(used) != used[-1] + 1:
                missing = sorted(set(range(int(used[-1]))) - set(used.tolist()))[0]
                raise DataError(
                    f"no image has the label {missing}: give numbers 0 to K − 1 that all occur, or "
                    "names for all classes"
                )
            names = [str(number) for number in used]
    classes = tuple(names or ())
    if len(set(classes)) < len(classes):
        raise DataError("two classes have the same name")
    return _numbers(given, count, classes), classes


def _numbers(labels: Any, count: int, classes: tuple[str, ...]) -> np.ndarray:
    given = np.asarray(labels)
    if given.shape != (count,):
        raise DataError(f"give one label per image, {count}, not an array {given.shape}")
    if given.dtype.kind == "U":
        if unknown := sorted(set(given.tolist()) - set(classes)):
            raise DataError(f"no class is named {unknown[0]!r}: there are {', '.join(classes)}")
        return np.array([classes.index(name) for name in given.tolist()], np.int32)
    if not np.issubdtype(given.dtype, np.integer):
        raise DataError(f"labels must be integers or strings, not {given.dtype}")
    if given.min() < 0 or (classes and given.max() >= len(classes)):
        raise DataError(
            f"labels must lie in 0..{max(len(classes) - 1, 0)}, these in "
            f"{given.min()}..{given.max()}"
        )
    return given.astype(np.int32)


def _held_out(count: int, label: np.ndarray | None) -> np.ndarray:
    """bool [N]: one image in ten of each class, at least one in total, never all of a class."""
    if count < 2:
        raise DataError("one image cannot be split: give test images, too")
    held_out = np.zeros(count, bool)
    order = np.random.default_rng(0).permutation(count)
    groups = np.zeros(count, np.int32) if label is None else label
    for group in np.unique(groups):
        members = order[groups[order] == group]
        held_out[members[: len(members) // 10]] = True
    if not held_out.any():
        held_out[order[0]] = True
    return held_out
