"""The settings that say which images a run is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ARRAYS = "arrays"  # the name of a data set that was given as arrays
MAX_SIDE = 8192  # pixels; decoding 8192 x 8192 takes 200 MB


@dataclass(frozen=True)
class DataSettings:
    """The images to learn from: a TFDS data set, or a folder."""

    name: str = "fashion_mnist_6k"
    """A TFDS image data set; fashion_mnist_6k and shapes64 come with genjax."""
    dir: str | None = None
    """Where the prepared TFDS data sets are. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    folder: str | None = None
    """A folder of images instead, or a file .zip, .npz or .npy. Subfolders are the classes, but
    those called train, test, val and the like are the splits. Without a test split, a tenth of
    each class is held out."""
    subfolders: Literal["auto", "classes", "splits", "none"] = "auto"
    """What the topmost subfolders mean: classes, splits, or nothing. auto: by their names."""
    size: int | tuple[int, int] | None = None
    """Side length in pixels, or height and width. None: as they are (folders: 64)."""
    fit: Literal["crop", "pad"] = "crop"
    """How images of another shape come to that size: the centre is cut out, or black is added."""
    channels: int | None = None
    """1 for greyscale, 3 for colour, in folders 4 for colour with transparency. None: as they are
    (folders: 1 where every image is grey, else 3)."""
    range: Literal["auto"] | tuple[float, float] = "auto"
    """The pixel values in a folder's files that are black and white, such as 0 4095. auto: all that
    the format can hold."""
    frames: Literal["first", "all"] = "first"
    """Which images of a folder's files that hold several: GIF, TIFF, PNG and WebP."""
    bad: Literal["refuse", "skip"] = "refuse"
    """What to do about a damaged or oversized file in a folder."""
    follow_links: bool = False
    """Follow links that lead out of the folder, and linked folders."""
    download: bool = False
    """Let TFDS download a data set that is not prepared (this step needs TensorFlow)."""
    rules: Literal[1, 2] = 2
    """How a folder is understood. 1: as by earlier versions, for runs that they started: only train
    and test or val are splits, and classes are numbered in each."""

    @property
    def height_width(self) -> tuple[int, int] | None:
        """`size` as height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
