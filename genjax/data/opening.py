"""The one door to the data room: a TFDS set by name, or a folder of a person's own images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from genjax.data.images import Images


def open_images(
    name: str = "fashion_mnist_6k",
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: Literal[1, 3] | None = None,
    bad: Literal["refuse", "skip"] = "refuse",
    download: bool = False,
    memory: int = 2 << 30,
) -> Images:
    """The images of a TFDS set, or of a folder where `folder` is given.

    A set: `name` is TFDS' `name[/config][:version]`, `split` TFDS' ("test", "train[:10%]"),
    `data_dir` where it is or will be prepared (TFDS' own default where None). Our own sets,
    fashion_mnist_6k and shapes64, are prepared on first use; others where `download` allows it.
    A folder: `split` is "train", "test" or "all" (see `open_folder`), and a `bad` file is refused
    or skipped. `size` resizes the short side and crops the centre; a folder, and a set of images
    of many sizes, need it. `channels` is 1 (luma) or 3, by default what the set has (a folder: 3).
    Up to `memory` bytes are decoded at once and kept; more are decoded batch by batch.

    Raises `DataError`, one line, where the images cannot be had.
    """
    # TFDS and Pillow are heavy: a program that only shows its help must not pay for them.
    if folder is not None:
        from genjax.data.folder import open_folder

        return open_folder(
            Path(folder).expanduser(),
            split,
            size=size,
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
