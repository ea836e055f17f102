"""Checks of images and labels that come as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from genjax.data.errors import DataError


def pixels(images: Any, what: str) -> np.ndarray:
    """Checks an array of images.

    Args:
      images: uint8, or floating point in 0..1, [N, H, W, C] with C of 1 or 3.
      what: what messages call them.

    Returns:
      uint8 [N, H, W, C].

    Raises:
      DataError: for anything else.
    """
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


def classes(
    labels: Any, count: int, names: Sequence[str] | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Checks labels, and finds the names of their classes.

    Args:
      labels: integers 0 to K − 1 or strings, [N]; None for none.
      count: N.
      names: the K classes by name. None: the numbers, or the strings in sorted order.

    Returns:
      Class numbers int32 [N] or None, and the names of the classes.

    Raises:
      DataError: where they are ambiguous.
    """
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
    known = tuple(names or ())
    if len(set(known)) < len(known):
        raise DataError("two classes have the same name")
    return numbers(given, count, known), known


def numbers(labels: Any, count: int, classes: tuple[str, ...]) -> np.ndarray:
    """Checks labels of known classes.

    Args:
      labels: integers 0 to K − 1 or strings, [N].
      count: N.
      classes: the names of the K classes.

    Returns:
      Class numbers int32 [N].

    Raises:
      DataError: where a label is of no class.
    """
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


def held_out(count: int, label: np.ndarray | None) -> np.ndarray:
    """One image in ten of each class, at least one in total, at random by a fixed seed.

    Args:
      count: N.
      label: class numbers [N], or None.

    Returns:
      bool [N], True for those held out.

    Raises:
      DataError: for a single image.
    """
    if count < 2:
        raise DataError("one image cannot be split: give test images, too")
    chosen = np.zeros(count, bool)
    order = np.random.default_rng(0).permutation(count)
    groups = np.zeros(count, np.int32) if label is None else label
    for group in np.unique(groups):
        members = order[groups[order] == group]
        chosen[members[: len(members) // 10]] = True
    if not chosen.any():
        chosen[order[0]] = True
    return chosen
