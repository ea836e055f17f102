"""Opens images by the settings of a run: a TFDS data set by name, or a folder of images."""

from __future__ import annotations

import os
from typing import Literal

from genjax import files
from genjax.data.errors import DataError
from genjax.data.images import Images


def open_images(
    name: str = "fashion_mnist_6k",
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    bad: Literal["refuse", "skip"] = "refuse",
    download: bool = False,
    memory: int = 2 << 30,
) -> Images:
    """Opens the images of a TFDS data set, or of a folder where `folder` is given.

    Args:
      name: `name[/config][:version]` of a TFDS data set; fashion_mnist_6k and shapes64 come with
        genjax and are prepared at their first use.
      split: as in TFDS ("train", "test", "train[:10%]"). "test" of a data set without one is its
        validation split, or else the last tenth of train, which "train" then excludes. Of a folder:
        "train", "test" or "all", see `image_folder.open_folder`.
      data_dir: where data sets are or will be prepared; None for the default of TFDS.
      folder: of images, in place of a TFDS data set.
      size: side length in pixels, by resizing and a centre crop; None: as they are (folders: 64).
        Required where the images differ in size.
      channels: 1 for greyscale, 3 for colour; None: as they are (folders: 3).
      bad: what to do about a file of a folder that is damaged, too large or a link out of it.
      download: whether TFDS may download and prepare a data set that is not prepared.
      memory: bytes of pixels up to which all images are decoded at once and held in RAM; larger
        data sets are decoded batch by batch.

    Returns:
      The images.

    Raises:
      DataError: where the images are unavailable.
    """
    if size is not None and not 1 <= size <= 1 << 15:
        raise DataError(f"--data.size: images have 1 to {1 << 15} pixels a side, got size {size}")
    if channels not in (None, 1, 3):
        raise DataError(f"images have 1 or 3 channels, not {channels}")
    # TFDS and Pillow are slow to import, and a program that only shows its help needs neither.
    if folder is not None:
        from genjax.data.image_folder import open_folder

        return open_folder(
            files.user_path(folder),
            split,
            size=size or 64,
            channels=channels or 3,
            bad=bad,
            memory=memory,
        )
    from genjax.data.preparation import default_data_dir
    from genjax.data.tfds_sets import open_tfds

    where = files.user_path(default_data_dir() if data_dir is None else data_dir)
    return open_tfds(
        name,
        split,
        where,
        size=size,
        channels=channels,
        download=download,
        memory=memory,
    )
