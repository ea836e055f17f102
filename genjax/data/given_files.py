"""Image files that a user names one by one, brought to the form of a model's images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from genjax.data.errors import DataError
from genjax.data.files import Folder, header, read_image
from genjax.data.pixels import Form

MASK_LEVEL = 128  # grey from which a pixel of a mask counts as white
_NAMES = {1: "grey", 3: "colour", 4: "colour with opacity"}


@dataclass(frozen=True)
class GivenImage:
    """An image of a user, in a model's form.

    Attributes:
      name: of the file, without folders.
      image: uint8 [H, W, C].
      size: (height, width) of the file's image as it is shown, before cropping and resizing.
      changed: what was done to it, in words; "" for nothing.
    """

    name: str
    image: np.ndarray
    size: tuple[int, int]
    changed: str


def stacked(given: Sequence[GivenImage]) -> np.ndarray:
    """The pixels of images of one shape.

    Args:
      given: n images.

    Returns:
      uint8 [n, H, W, C].
    """
    return np.stack([each.image for each in given])


def changes(given: Sequence[GivenImage]) -> tuple[str, ...]:
    """What was done to images, a line for each that did not stay as it is.

    Args:
      given: the images.

    Returns:
      The lines.
    """
    return tuple(f"{each.name}: {each.changed}" for each in given if each.changed)


def read_images(
    paths: Sequence[str | os.PathLike[str]],
    shape: tuple[int, int, int],
    fit: Literal["crop", "pad"] = "crop",
) -> list[GivenImage]:
    """Reads image files of any size and mode as images of one shape.

    Args:
      paths: of the files.
      shape: (H, W, C) of the result.
      fit: how another aspect ratio comes to that size: the centre is cut out, or black is added.

    Returns:
      The images, each with what was done to it.

    Raises:
      DataError: where a file is none, damaged or too large.
    """
    return [_read(Path(path), shape, fit) for path in paths]


def read_mask(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    shape: tuple[int, int, int],
    fit: Literal["crop", "pad"] = "crop",
) -> np.ndarray:
    """Reads a mask, whose white pixels are to be filled in.

    Args:
      path: of the file.
      size: (height, width) of the image that it belongs to, before cropping and resizing.
      shape: (H, W, C) of the model's images.
      fit: as the image was brought to that shape.

    Returns:
      bool [H, W], True where an image is to be filled in.

    Raises:
      DataError: where the file is no image, of another size than the image, or hides nothing or
        everything.
    """
    given = _read(Path(path), (*shape[:2], 1), fit)
    if given.size not in (size, shape[:2]):
        mask, image = ("x".join(map(str, x)) for x in (given.size, size))
        raise DataError(
            f"the mask {given.name} is {mask} and its image {image}: give a mask of that size"
        )
    hidden = given.image[..., 0] >= MASK_LEVEL
    if hidden.all() or not hidden.any():
        what, colour = ("everything", "black") if hidden.all() else ("nothing", "white")
        raise DataError(
            f"the mask {given.name} hides {what}, no pixel of it is {colour}: white pixels are "
            "filled in, black ones stay"
        )
    return hidden


def _read(path: Path, shape: tuple[int, int, int], fit: Literal["crop", "pad"]) -> GivenImage:
    if not path.is_file():
        raise DataError(f"{path} is no file: name image files")
    tree = Folder(path.parent, follow_links=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        seen = header(tree, path.name)
    own = read_image(tree, path.name, Form(shape[2]))
    size = (own.shape[0], own.shape[1])
    image = (
        read_image(tree, path.name, Form(shape[2], shape[:2], fit)) if size != shape[:2] else own
    )
    changed = []
    if size != shape[:2]:
        same = size[0] * shape[1] == size[1] * shape[0]
        how = "" if same else "cropped to its centre and " if fit == "crop" else "padded and "
        changed.append(f"{how}resized from {size[0]}x{size[1]} to {shape[0]}x{shape[1]}")
    if seen.grey != (shape[2] == 1):
        changed.append(f"made {_NAMES[shape[2]]}")
    if seen.frames > 1:
        changed.append(f"the first of {seen.frames} images")
    return GivenImage(path.name, image, size, ", ".join(changed))
