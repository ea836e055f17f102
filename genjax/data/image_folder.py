"""A folder of a person's own images as `Images`, cut to one size."""

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
    """Every image below a folder, in the order of the paths.

    Classes are the topmost subfolders, unless an image lies outside of all. A folder that holds
    nothing but train and test (or val, validation) is split so; of any other, "test" is one image
    in ten, chosen by a hash of its path, "train" is the rest, and "all" is all.

    A file that is broken, leads out of the folder, or is over `files.MAX_SIDE` or
    `files.MAX_BYTES` is refused, or skipped and told in `Images.skipped`. Up to `memory` bytes of
    pixels are decoded now and kept in RAM. More are decoded batch by batch: then a broken file
    comes to light when its batch is read, or now, by decoding everything once, if it is to be
    skipped.
    """
    files = _files_of(folder, split)
    skipped: list[str] = []
    with warnings.catch_warnings():
        # `check` refuses such images, by a lower bound than Pillow's.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        work = partial(check, folder=folder)
        files = [file for file, _ in _working(work, files, bad, skipped, "Checking")]
    read = partial(read_image, size=size, channels=channels)
    shape = (len(files), size, size, channels)
    image = np.empty(shape, np.uint8) if int(np.prod(shape)) <= memory else None
    if image is not None or bad == "skip":
        kept: list[_File] = []
        for file, pixels in _working(read, files, bad, skipped, "Reading"):
            if image is not None:
                image[len(kept)] = pixels
            kept.append(file)
        files = kept
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
    below: str  # the path below the folder, or below its train or test


@dataclass(frozen=True, eq=False)
class Files:
    """A source that decodes files as they are asked for."""

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
    """The folders of train and test, where there is nothing else."""
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

    By a hash so that few change sides when images are added.
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
    """The files on which `work` succeeds, in order, with its result; a bar after two seconds."""

    def attempt(file: _File) -> Any:
        try:
            return work(file.path)
        except DataError as error:
            return error

    bar = tqdm.tqdm(total=len(files), desc=title, delay=2, leave=False, disable=None)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), 256):  # few at once: a refusal need not wait for all
            some = files[start : start + 256]
            for file, result in zip(some, pool.map(attempt, some), strict=True):
                bar.update()
                if not isinstance(result, DataError):
                    yield file, result
                elif bad == "skip":
                    skipped.append(str(result))
                else:
                    raise result
