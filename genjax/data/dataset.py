"""A data set with its splits: images to train on, held-out images, and where they come from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from genjax.data.errors import DataError
from genjax.data.images import Images
from genjax.data.opening import open_images
from genjax.data.settings import ARRAYS, DataSettings


@dataclass(frozen=True)
class ImageSpec:
    """What a network must know about its images.

    Attributes:
      shape: (H, W, C) of one image.
      classes: number of classes, 0 where there are no labels.
      count: number of images to train on.
    """

    shape: tuple[int, int, int]
    classes: int
    count: int


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
            self.splits[name] = open_images(
                self.settings.name,
                split=name,
                data_dir=self.settings.dir,
                folder=self.settings.folder,
                size=self.settings.size,
                channels=self.settings.channels,
                bad=self.settings.bad,
                download=self.settings.download,
            )
        return self.splits[name]

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
        return ImageSpec(self.train.shape[1:], self.train.num_classes, len(self.train))


def folder(
    path: str | os.PathLike[str],
    *,
    size: int = 64,
    channels: int = 3,
    bad: Literal["refuse", "skip"] = "refuse",
) -> Dataset:
    """A folder of images; its subfolders are the classes.

    A folder that contains only train and test (or val, validation) is split so. Of any other, one
    image in ten is held out, chosen by a hash of its path.

    Args:
      path: the folder.
      size: side length in pixels, by resizing and a centre crop.
      channels: 1 for greyscale, 3 for colour.
      bad: what to do about a file that is damaged, too large or a link out of the folder.

    Returns:
      The data set.
    """
    return Dataset(DataSettings(folder=os.fspath(path), size=size, channels=channels, bad=bad))


def tfds(
    name: str,
    *,
    dir: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    download: bool = False,
) -> Dataset:
    """A TFDS data set of images, read without TensorFlow.

    Args:
      name: `name[/config][:version]`; fashion_mnist_6k and shapes64 come with genjax.
      dir: where the prepared data sets are. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      size: side length in pixels, by resizing and a centre crop. None: as they are.
      channels: 1 for greyscale, 3 for colour. None: as they are.
      download: let TFDS download a data set that is not prepared (needs TensorFlow).

    Returns:
      The data set.
    """
    where = None if dir is None else os.fspath(dir)
    return Dataset(DataSettings(name, where, size=size, channels=channels, download=download))
