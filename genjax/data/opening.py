"""The one door to the data room: a TFDS set by name, or a folder of a person's own images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

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
    """The images of a TFDS set, or of a folder where `folder` is given.

    name: TFDS' `name[/config][:version]`. Our own, fashion_mnist_6k and shapes64, are prepared on
        first use.
    split: TFDS' ("train", "test", "train[:10%]"). "test" of a set that has none is its validation
        split, or else the last tenth of train, which "train" then leaves out. Of a folder: "train",
        "test" or "all", see `folder.open_folder`.
    data_dir: where sets are or will be prepared; None: TFDS' own default.
    size: the short side is resized to it and the centre cropped; None: as they are (a folder: 64).
        A set of images of many sizes needs it.
    channels: 1 (luma) or 3; None: as they are (a folder: 3).
    bad: what to do with a file of a folder that is broken, too large or leads out of it.
    download: whether TFDS may download and prepare a set that is not there.
    memory: decoded at once and kept in RAM up to so many bytes; else decoded batch by batch.

    Raises `DataError`, one line, where the images cannot be had.
    """
    if size is not None and size < 1:
        raise DataError(f"images need at least one pixel a side, got size {size}")
    if channels not in (None, 1, 3):
        raise DataError(f"images have 1 or 3 channels, not {channels}")
    # TFDS and Pillow are heavy: a program that only shows its help must not pay for them.
    if folder is not None:
        from genjax.data.image_folder import open_folder

        return open_folder(
            Path(folder).expanduser(),
            split,
            size=size or 64,
            channels=channels or 3,
            bad=bad,
            memory=memory,
        )
    from genjax.data.preparation import default_data_dir
    from genjax.data.tfds_sets import open_tfds

    where = default_data_dir() if data_dir is None else Path(data_dir)
    return open_tfds(
        name,
        split,
        where.expanduser().absolute(),
        size=size,
        channels=channels,
        download=download,
        memory=memory,
    )
