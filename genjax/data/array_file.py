"""A file .npy or .npz of images, with labels and splits by the names of its arrays."""

from __future__ import annotations

import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genjax.data import array_checks
from genjax.data.errors import DataError
from genjax.data.images import Images, images_from_arrays
from genjax.data.layout import TEST, TRAIN, VALIDATION, held_out_tenth, split_named
from genjax.data.pixels import MODES, Form, scaled, to_array
from genjax.data.report import Report
from genjax.data.settings import DataSettings

SUFFIXES = (".npy", ".npz")
MAX_BYTES = 16 << 30  # of a compressed file's arrays
_IMAGES = {"images", "image", "imgs", "img", "x", "data"}
_LABELS = {"labels", "label", "y", "targets", "target"}
_NAMES = {"names", "classes"}
_CHUNK = 1000  # images converted at once


class ArrayFile:
    """The images of a file, by split.

    An array is called images, x or data, its labels labels, y or targets, with the name of a split
    before or behind: train_images, x_test. Classes can be named by an array names. Without a test
    split, one image in ten of each class is held out.

    Args:
      path: of the file.
      settings: how to read it.

    Raises:
      DataError: where the file cannot be read, or it is doubtful what its arrays are.
    """

    def __init__(self, path: Path, settings: DataSettings):
        self.path, self.settings = path, settings
        self.name = Path(os.path.abspath(path)).name
        try:
            self._understand(_loaded(path))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def open(self, split: str, memory: int) -> Images:
        """The images of a split.

        Args:
          split: "train", "test", "validation" where there is one, or "all".
          memory: not used: the file is read at once.

        Returns:
          The images.

        Raises:
          DataError: where there is no such split.
        """
        if split == "all":
            parts = [*self.splits.values()]
        elif found := self.splits.get(split, self.splits.get(split_named(split) or "")):
            parts = [found]
        else:
            raise DataError(
                f"{self.path} has no split {split!r}: take {', '.join(self.splits)} or all"
            )
        image = np.concatenate([images for images, _ in parts])
        if not len(image):
            raise DataError(f"{self.path} holds one image, which cannot be split: add some")
        label = np.concatenate([x for _, x in parts]) if self.classes else None
        return images_from_arrays(image, label, name=self.name, split=split, classes=self.classes)

    @property
    def brightest(self) -> None:
        """Not known beyond what the images show."""
        return None

    @property
    def report(self) -> Report:
        """What was understood."""
        return Report(
            splits={split: len(images) for split, (images, _) in self.splits.items()},
            held_out=self.held_out,
            skipped={f"array {name}, not understood": 1 for name in self.others},
            sizes=self.sizes,
            modes=self.kinds,
            notes=tuple(self.notes),
        )

    def _understand(self, arrays: Mapping[str, np.ndarray]) -> None:
        images, labels, names, self.others = _roles(arrays)
        self.sizes: dict[str, int] = {}
        self.kinds: dict[str, int] = {}
        self.notes: list[str] = []
        for split, array in images.items():
            images[split] = self._pixels(array, split)
        self.classes: tuple[str, ...] = ()
        numbers: dict[str, Any] = dict.fromkeys(images)
        if labels.keys() & images.keys():
            if missing := sorted(images.keys() - labels.keys()):
                raise DataError(f"the {missing[0] or 'other'} images have no labels: add those")
            flat = {s: _flat(labels[s], len(images[s])) for s in images}
            count = sum(map(len, flat.values()))
            joined, self.classes = array_checks.classes(
                np.concatenate([*flat.values()]), count, names
            )
            assert joined is not None
            ends = np.cumsum([len(x) for x in flat.values()])[:-1]
            numbers = dict(zip(flat, np.split(joined, ends), strict=True))
        pairs = {split: (images[split], numbers[split]) for split in images}
        if len(pairs) == 1:
            ((image, label),) = pairs.values()
            names = [str(i) for i in range(len(image))]
            groups = [""] * len(image) if label is None else label.astype(str).tolist()
            test = np.isin(np.arange(len(image)), held_out_tenth(names, groups))
            pairs = {
                split: (image[rows], None if label is None else label[rows])
                for split, rows in ((TRAIN, ~test), (TEST, test))
            }
            self.held_out = "one image in ten" + (", of each class" if self.classes else "")
        else:
            self.held_out = f"the {'test' if TEST in pairs else 'validation'} images of the file"
            if TEST not in pairs:
                pairs[TEST] = pairs.pop(VALIDATION)
        self.splits = pairs

    def _pixels(self, array: np.ndarray, split: str) -> np.ndarray:
        """Images as uint8 [N, H, W, C], of the size and channels that are asked for."""
        what = f"the {split} images".replace("  ", " ")
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim == 4 and array.shape[-1] not in MODES and array.shape[1] in MODES:
            raise DataError(
                f"{what} of shape {array.shape} look like [N, C, H, W]: store [N, H, W, C]"
            )
        if array.ndim != 4 or array.shape[-1] not in MODES or 0 in array.shape:
            raise DataError(f"{what} must be [N, H, W] or [N, H, W, 1, 3 or 4], not {array.shape}")
        size, depth = f"{array.shape[1]}x{array.shape[2]}", array.shape[-1]
        self.sizes[size] = self.sizes.get(size, 0) + len(array)
        kind = f"{array.dtype} x {depth}"
        self.kinds[kind] = self.kinds.get(kind, 0) + len(array)
        channels = self.settings.channels or (1 if depth == 1 else 3)
        form = Form(channels, self.settings.height_width, self.settings.fit)
        if depth == 4 and channels != 4 and not self.notes:
            self.notes.append("transparency is put on white (--data.channels 4 keeps it)")
        parts = [
            self._brought(part, form, self._limits(array, what))
            for part in np.split(array, range(_CHUNK, len(array), _CHUNK))
        ]
        return np.concatenate(parts)

    def _limits(self, array: np.ndarray, what: str) -> tuple[float, float] | None:
        if array.dtype.kind not in "biuf":
            raise DataError(f"{what} are {array.dtype}: store numbers")
        if self.settings.range != "auto":
            return self.settings.range
        if array.dtype == np.uint8:
            return None
        if array.dtype == bool:
            return (0, 1)
        low, high = float(array.min()), float(array.max())
        if math.isnan(low):
            raise DataError(f"{what} hold NaN: some pixels have no value")
        if np.issubdtype(array.dtype, np.floating) and low >= 0 and high <= 1:
            return (0, 1)
        raise DataError(
            f"{what} are {array.dtype} in {low:g}..{high:g}, which is no known range: give it by "
            "--data.range LOW HIGH"
        )

    def _brought(
        self, array: np.ndarray, form: Form, limits: tuple[float, float] | None
    ) -> np.ndarray:
        array = np.asarray(array) if limits is None else scaled(array, *limits)
        depth = array.shape[-1]
        if depth == form.channels and form.size in (None, array.shape[1:3]):
            return array
        images = array[..., 0] if depth == 1 else array
        return np.stack([to_array(Image.fromarray(x, MODES[depth]), form) for x in images])


def _loaded(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix.lower() == ".npy":
            return {"images": np.lib.format.open_memmap(path, mode="r")}
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise DataError(f"over {MAX_BYTES >> 30} GiB: store the images as .npy")
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot be read: {str(error).partition(chr(10))[0]}") from error
    except (NotImplementedError, RuntimeError, SyntaxError, TypeError, zlib.error) as error:
        raise DataError(f"broken: {str(error).partition(chr(10))[0]}") from error


def _roles(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str] | None, list[str]]:
    """Images and labels by split ("" where the file has none), names of classes, and the rest."""
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    names, others = None, []
    for name, array in arrays.items():
        words = re.findall(r"[a-z]+", name.lower())
        split = next(filter(None, map(split_named, words)), "")
        rest = {word for word in words if split_named(word) is None}
        role = images if rest & _IMAGES else labels if rest & _LABELS else None
        if rest & _NAMES and array.ndim == 1 and array.dtype.kind == "U":
            names = [str(x) for x in array]
        elif role is None or split in role:
            others.append(name)
        else:
            role[split] = array
    if not images:
        images, labels, others = _by_shape(arrays, others)
    if "" in images and TRAIN not in images and len(images) > 1:
        images[TRAIN] = images.pop("")
        if "" in labels:
            labels[TRAIN] = labels.pop("")
    if len(images) > 1 and (TRAIN not in images or "" in images):
        raise DataError(f"the arrays {', '.join(arrays)} name no train images, or too many")
    return images, labels, names, others


def _by_shape(arrays: Mapping[str, np.ndarray], others: list[str]) -> Any:
    many = [name for name in others if arrays[name].ndim in (3, 4)]
    if len(many) != 1:
        seen = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise DataError(f"holds {seen or 'nothing'}: call the images images, and labels labels")
    image = arrays[many[0]]
    one = [
        name
        for name in others
        if arrays[name].dtype.kind in "iuU"
        and arrays[name].shape in ((len(image),), (len(image), 1))
    ]
    labels = {"": arrays[one[0]]} if len(one) == 1 else {}
    used = {*many, *(one if labels else [])}
    return {"": image}, labels, [name for name in others if name not in used]


def _flat(labels: np.ndarray, count: int) -> np.ndarray:
    if labels.shape not in ((count,), (count, 1)):
        raise DataError(f"there are {count} images, but labels of shape {labels.shape}")
    return labels.reshape(-1)
