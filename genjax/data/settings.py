"""The settings that say which images a run is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ARRAYS = "arrays"  # the name of a data set that was given as arrays


@dataclass(frozen=True)
class DataSettings:
    """The images to learn from: a TFDS data set, or a folder."""

    name: str = "fashion_mnist_6k"
    """A TFDS image data set; fashion_mnist_6k and shapes64 come with genjax."""
    dir: str | None = None
    """Where the prepared TFDS data sets are. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    folder: str | None = None
    """A folder of images instead; subfolders are the classes."""
    size: int | None = None
    """Side length in pixels, by resizing and a centre crop. None: as they are (folders: 64)."""
    channels: int | None = None
    """1 for greyscale, 3 for colour. None: as they are (folders: 3)."""
    bad: Literal["refuse", "skip"] = "refuse"
    """What to do about a damaged or oversized file in a folder."""
    download: bool = False
    """Let TFDS download a data set that is not prepared (this step needs TensorFlow)."""
