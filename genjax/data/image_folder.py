"""A folder of images as `Images`, resized and cropped to one size."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tqdm
from PIL import Image

from genjax.data.errors import DataError
from genjax.data.files import FORMATS, check, image_files, read_image
from genjax.data.images import Batch, Images, InMemory

TEST_NAMES = {"test", "val", "validation"}


def open_folder(
    folder: Path,
    split: str = "all",
    *,
    size: int = 64,
    channels: int = 3,
    bad: Literal["refuse", "skip"] = "refuse",
    memory: int = 2 << 30,
) -> Images:
    """Opens all images below a folder, in the order of their paths.

    Classes are the topmost subfolders, unless an image is outside of all. A folder that contains
    only train and test (or val, validation) is split so; of any other, "test" is one image in ten,
    chosen by a hash of its path, "train" is the rest, and "all" is all.

    A file that is damaged, a link out of the folder, or over `files.MAX_SIDE` or `files.MAX_BYTES`
    is an error, or is skipped and listed in `Images.skipped`. Data sets that do not fit into
    `memory` are decoded batch by batch: a damaged file is then found when its batch is read, or, if
    it is to be skipped, at once, by decoding everything one time.

    Args:
      folder: of the images.
      split: "train", "test" or "all".
      size: side length in pixels, by resizing and a centre crop.
      channels: 1 for greyscale, 3 for colour.
      bad: "refuse" to raise an error for a bad file, "skip" to skip it.
      memory: bytes of pixels up to which all images are decoded at once and held in RAM.

    Returns:
      The images.

    Raises:
      DataError: where there is no image, or for a bad file that is not skipped.
    """
    files = _files_of(folder, split)
    skipped: list[str] = []
    with warnings.catch_warnings():
        # `check` rejects such images, by a lower bound than Pillow's.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        work = partial(check, folder=folder)
        files = [file for file, _ in _working(work, files, bad, skipped, "Checking")]
    read = partial(read_image, size=size, channels=channels)
    shape = (len(files), size, size, channels)
    image = np.empty(shape, np.uint8) if int(np.prod(shape)) <= memory else None
    if image is not None or bad == "skip":
        readable: list[_File] = []
        for file, pixels in _working(read, files, bad, skipped, "Reading"):
            if image is not None:
                image[len(readable)] = pixels
            readable.append(file)
        files = readable
    if not files:
        raise DataError(f"no image of {folder} can be read; {skipped[0]}")
    label, classes = _labels(files)
    source: InMemory | Files
    if image is not None:
        source = InMemory(image[: len(files)], label)
    else:
        source = Files([file.path for file in files], label, read)
    return Images(
        source,
        (len(files), *shape[1:]),
        folder.name,
        split,
        labelled=label is not None,
        classes=classes,
        skipped=tuple(skipped),
    )


@dataclass(frozen=True)
class _File:
    path: Path
    below: str  # the path relative to the folder, or to its train or test


@dataclass(frozen=True, eq=False)
class Files:
    """A source that decodes files on demand.

    Attributes:
      paths: of the N files.
      label: class numbers int32 [N], or None.
      read: path -> uint8 [H, W, C].
    """

    paths: Sequence[Path]
    label: np.ndarray | None
    read: Callable[[Path], np.ndarray]

    def __getitem__(self, indices: np.ndarray) -> Batch:
        batch = {"image": np.stack([self.read(self.paths[i]) for i in indices])}
        if self.label is not None:
            batch["label"] = self.label.take(indices)
        return batch


def _files_of(folder: Path, split: str) -> list[_File]:
    if split not in ("train", "test", "all"):
        raise DataError(f"a folder has no split {split!r}: take train, test or all")
    if not os.path.isdir(folder):
        raise DataError(f"{folder} is no folder")
    parts = _split_folders(folder)
    if parts is not None:
        roots = [root for name, root in parts.items() if split in (name, "all")]
        files = [_File(p, p.relative_to(r).as_posix()) for r in roots for p in image_files(r)]
    else:
        files = [_File(p, p.relative_to(folder).as_posix()) for p in image_files(folder)]
        if split != "all":
            held_out = _held_out([file.below for file in files])
            files = [file for file in files if (file.below in held_out) == (split == "test")]
    if not files:
        raise DataError(
            f"{folder} holds no image for the split {split!r} ({', '.join(sorted(FORMATS))})"
        )
    return files


def _split_folders(folder: Path) -> dict[str, Path] | None:
    """The folders of train and test, if the folder contains nothing else."""
    try:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error
    test = names - {"train"}
    if "train" in names and len(test) == 1 and test <= TEST_NAMES:
        return {"train": folder / "train", "test": folder / test.pop()}
    return None


def _held_out(paths: list[str]) -> set[str]:
    """One path in ten, at least one of two: those with the lowest hashes.

    By a hash so that few change splits when images are added.
    """
    ranked = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    return set(ranked[: max(len(paths) // 10, min(len(paths) - 1, 1))])


def _labels(files: list[_File]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    tops, below = zip(*(file.below.partition("/")[::2] for file in files), strict=True)
    if not all(below):
        return None, ()
    classes, label = np.unique(np.array(tops, object), return_inverse=True)
    return label.astype(np.int32), tuple(classes)


def _working(
    work: Callable[[Path], Any], files: list[_File], bad: str, skipped: list[str], title: str
) -> Iterator[tuple[_File, Any]]:
    """Yields the files on which `work` succeeds, in order, with its result.

    A progress bar appears after two seconds.
    """

    def attempt(file: _File) -> Any:
        try:
            return work(file.path)
        except DataError as error:
            return error

    bar = tqdm.tqdm(total=len(files), desc=title, delay=2, leave=False, disable=None)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), 256):  # in blocks, so that an error is raised early
            some = files[start : start + 256]
            for file, result in zip(some, pool.map(attempt, some), strict=True):
                bar.update()
                if not isinstance(result, DataError):
                    yield file, result
                elif bad == "skip":
                    skipped.append(str(result))
                else:
                    raise result
