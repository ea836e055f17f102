"""The one door to the data room: a TFDS set by name, or a folder of images."""

from __future__ import annotations

import os

from genjax.data.error import DataError
from genjax.data.images import Images


def open_images(
    name: str = "fashion_mnist_6k",
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
) -> Images:
    """The images of a TFDS set, or of a folder where `folder` is given.

    Heavy imports happen here and not before.
    """
    from pathlib import Path

    from genjax.data.tfds_sets import default_data_dir, open_tfds

    if folder is not None:
        raise DataError("folders: not yet")
    where = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    return open_tfds(name, split, where, size, channels)
