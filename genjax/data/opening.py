"""Opens images by the settings of a run: a TFDS data set by name, or a folder of images."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any, Protocol

from genjax import files
from genjax.data.errors import DataError
from genjax.data.images import Images
from genjax.data.report import Report
from genjax.data.settings import MAX_SIDE, DataSettings
from genjax.errors import shortened

MEMORY = 2 << 30  # bytes of pixels up to which a set is held in RAM


class Collection(Protocol):
    """A data set that is found, with all its splits."""

    def open(self, split: str, memory: int) -> Images:
        """The images of a split.

        Args:
          split: its name.
          memory: bytes of pixels up to which all images are decoded at once and held in RAM.

        Returns:
          The images.
        """

    @property
    def brightest(self) -> tuple[int, int] | None:
        """The highest value in a sample of files, and the highest possible; None if unknown."""

    @property
    def report(self) -> Report:
        """What was understood."""


def open_images(
    name: str = "fashion_mnist_6k",
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    memory: int = MEMORY,
    **settings: Any,
) -> Images:
    """Opens the images of a TFDS data set, or of a folder where `folder` is given.

    Args:
      name: `name[/config][:version]` of a TFDS data set; fashion_mnist_6k and shapes64 come with
        genjax and are prepared at their first use.
      split: as in TFDS ("train", "test", "train[:10%]"). "test" of a data set without one is its
        validation split, or else the last tenth of train, which "train" then excludes. Of a folder:
        "train", "test", "all", or "validation" where it has all three.
      data_dir: where data sets are or will be prepared; None for the default of TFDS.
      folder: of images, or a file .zip, .npz or .npy, in place of a TFDS data set.
      memory: bytes of pixels up to which all images are decoded at once and held in RAM; larger
        data sets are decoded batch by batch.
      settings: further ones of `DataSettings`, such as size and channels.

    Returns:
      The images.
    """
    where = None if data_dir is None else os.fspath(data_dir)
    place = None if folder is None else os.fspath(folder)
    return find(DataSettings(name, where, place, **settings)).open(split, memory)


def find(settings: DataSettings) -> Collection:
    """Finds the data set that settings name.

    Args:
      settings: which.

    Returns:
      The data set.

    Raises:
      DataError: where it is unavailable, or settings do not fit it.
    """
    _check(settings)
    # TFDS and Pillow are slow to import, and a program that only shows its help needs neither.
    if settings.folder is not None:
        from genjax.data.array_file import SUFFIXES, ArrayFile
        from genjax.data.image_folder import ImageFolder

        path = files.user_path(settings.folder)
        if path.suffix.lower() in SUFFIXES and os.path.isfile(path):
            _refuse_for("files of arrays", settings, "subfolders", "frames")
            return ArrayFile(path, settings)
        return ImageFolder(path, settings)
    _refuse_for("TFDS data sets", settings, "subfolders", "frames", "range", "follow_links")
    if settings.channels == 4:
        raise DataError("--data.channels 4 is for folders: TFDS images have 1 or 3 channels")
    if settings.fit != "crop" and settings.size is None:
        raise DataError("--data.fit pad needs a --data.size to be padded to")
    from genjax.data.preparation import default_data_dir
    from genjax.data.tfds_sets import TfdsSet

    where = default_data_dir(settings.name) if settings.dir is None else settings.dir
    return TfdsSet(files.user_path(where), settings)


def find_at_own_size(settings: DataSettings) -> Collection:
    """Finds a data set whose images keep their size, in a folder too, unless settings give one.

    Args:
      settings: which.

    Returns:
      The data set.

    Raises:
      DataError: where it is unavailable, settings do not fit it, or a folder's images have several
        sizes.
    """
    found = find(settings)
    if settings.folder is None or settings.size is not None:
        return found
    from genjax.data.image_folder import ImageFolder

    if isinstance(found, ImageFolder):
        sizes = sorted({header.size[::-1] for header in found.headers.values()})
        if len(sizes) > 1:
            shown = shortened([f"{height}x{width}" for height, width in sizes])
            raise DataError(
                f"the images of {found.path} have {len(sizes)} sizes ({shown}): bring them to one "
                "by --data.size HEIGHT WIDTH"
            )
        found.form = dataclasses.replace(found.form, size=sizes[0])
    return found


def _check(settings: DataSettings) -> None:
    if settings.folder == "":
        raise DataError("--data.folder is empty: name a folder, or . for the one you are in")
    if settings.size is not None:
        sides = settings.height_width or ()
        if len(sides) != 2 or not all(0 < side <= MAX_SIDE for side in sides):
            raise DataError(
                f"--data.size: images have 1 to {MAX_SIDE} pixels a side, got size {settings.size}"
            )
    if settings.channels not in (None, 1, 3, 4):
        raise DataError(
            "--data.channels: images have 1 or 3 channels, or 4 in folders, not "
            f"{settings.channels}"
        )
    if settings.range != "auto":
        limits = settings.range
        if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] >= limits[1]:
            raise DataError(f"--data.range takes a number and a larger one, not {limits}")


def _refuse_for(what: str, settings: DataSettings, *names: str) -> None:
    """Refuses settings that would do nothing."""
    for name in names:
        if getattr(settings, name) != getattr(DataSettings, name):
            flag = name.replace("_", "-")
            raise DataError(f"--data.{flag} is for folders of image files, not for {what}")
