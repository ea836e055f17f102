"""A data set with its splits: images to train on, held-out images, and where they come from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from genjax.data.errors import DataError
from genjax.data.images import Images
from genjax.data.opening import MEMORY, Collection, find
from genjax.data.report import Report
from genjax.data.settings import ARRAYS, DataSettings


@dataclass(frozen=True)
class ImageSpec:
    """What a network must know about its images.

    Attributes:
      shape: (H, W, C) of one image.
      classes: number of classes, 0 where there are no labels.
      count: number of images to train on.
      names: of the classes, where they are known.
    """

    shape: tuple[int, int, int]
    classes: int
    count: int
    names: tuple[str, ...] = ()

    def classes_for(self, flag: str) -> int:
        """The number of classes, for a network that is conditioned on them.

        Args:
          flag: that asks for it.

        Returns:
          At least 2.

        Raises:
          DataError: where there are none to tell apart.
        """
        if self.classes < 2:
            seen = "only one" if self.classes else "no labels"
            raise DataError(
                f"{flag} needs images of several classes, and these have {seen}: sort all of them "
                "into one subfolder per class, or leave the flag out"
            )
        return self.classes


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images by split. A split is opened at its first use.

    Attributes:
      settings: where the images come from.
      splits: {split: images} of those that are open.
    """

    settings: DataSettings
    splits: dict[str, Images] = field(default_factory=dict)

    def split(self, name: str) -> Images:
        """The images of a split.

        Args:
          name: "train", "test", or for a TFDS data set what TFDS takes, such as "train[:10%]".

        Returns:
          The images.

        Raises:
          DataError: where there is no such split, or its images cannot be read.
        """
        if name not in self.splits:
            if self.settings.name == ARRAYS:
                raise DataError(
                    f"arrays have no split {name!r}: there are {', '.join(self.splits)}"
                    if self.splits
                    else "the images came as arrays: give them to run.open, or say where a copy "
                    "of them is"
                )
            self.splits[name] = self._found.open(name, MEMORY)
        return self.splits[name]

    @cached_property
    def _found(self) -> Collection:
        return find(self.settings)

    @property
    def report(self) -> Report:
        """What was understood of the data set, beside the images of its splits."""
        if self.settings.name == ARRAYS:
            return Report({name: len(images) for name, images in self.splits.items()}, "as given")
        return self._found.report

    @property
    def brightest(self) -> tuple[int, int] | None:
        """The highest value in a sample of a folder's files, and the highest possible."""
        return None if self.settings.name == ARRAYS else self._found.brightest

    @property
    def train(self) -> Images:
        """The images to train on."""
        return self.split("train")

    @property
    def test(self) -> Images:
        """The held-out images."""
        return self.split("test")

    @property
    def spec(self) -> ImageSpec:
        """Shape, classes and count of the images to train on."""
        train = self.train
        return ImageSpec(train.shape[1:], train.num_classes, len(train), train.classes)


def folder(
    path: str | os.PathLike[str], *, size: int | tuple[int, int] = 64, **settings: Any
) -> Dataset:
    """A folder of images; its subfolders are the classes, or the splits by their names.

    Subfolders called train, test, val or the like are the splits. Where there is no test split, one
    image in ten of each class is held out, chosen by a hash of its path.

    Args:
      path: the folder, or a file .zip, .npz or .npy.
      size: side length in pixels, or height and width.
      settings: further ones of `DataSettings`, such as channels, range and fit.

    Returns:
      The data set.
    """
    return Dataset(DataSettings(folder=os.fspath(path), size=size, **settings))


def tfds(
    name: str,
    *,
    dir: str | os.PathLike[str] | None = None,
    size: int | tuple[int, int] | None = None,
    **settings: Any,
) -> Dataset:
    """A TFDS data set of images, read without TensorFlow.

    Args:
      name: `name[/config][:version]`; fashion_mnist_6k and shapes64 come with genjax.
      dir: where the prepared data sets are. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      size: side length in pixels, or height and width. None: as they are.
      settings: further ones of `DataSettings`, such as channels, fit and download.

    Returns:
      The data set.
    """
    where = None if dir is None else os.fspath(dir)
    return Dataset(DataSettings(name, where, size=size, **settings))
