"""A folder or a ZIP archive of images, brought to one size."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tqdm
from PIL import Image

from genjax.data import files
from genjax.data.errors import DataError
from genjax.data.files import FORMATS, Archive, FileError, Folder, Header, Listing, Tree
from genjax.data.images import Batch, Images, InMemory
from genjax.data.layout import Layout, split_named, understand, understand_as_before
from genjax.data.pixels import Form
from genjax.data.report import Report
from genjax.data.settings import DataSettings

T = TypeVar("T")
SIDE = 64  # where no size is given


class ImageFolder:
    """The images below a folder, in the order of their paths, by split.

    `layout.understand` says what subfolders mean. A file that is damaged, a link out of the folder,
    or over `files.MAX_SIDE` or `files.MAX_BYTES` is an error, or is skipped and listed in
    `Images.skipped`.

    Args:
      path: of the folder, or of a ZIP archive.
      settings: how to read it.

    Raises:
      DataError: where there is no image, one cannot be read and is not to be skipped, or it is
        doubtful what the folders mean.
    """

    def __init__(self, path: Path, settings: DataSettings):
        self.path, self.settings = path, settings
        self.name = Path(os.path.abspath(path)).name
        archive = path.suffix.lower() == ".zip" and os.path.isfile(path)
        if not archive and not os.path.isdir(path):
            raise DataError(f"{path} is no folder, .zip, .npz or .npy")
        self.tree: Tree = Archive(path) if archive else Folder(path, settings.follow_links)
        listing = self.tree.list()
        self.others = Counter(Path(name).suffix.lower() or "no suffix" for name in listing.others)
        if not listing.images:
            seen = f", but {_counted(self.others)}" if self.others else ""
            raise DataError(f"{path} holds no image ({', '.join(sorted(FORMATS))}){seen}")
        self.skipped: list[str] = []
        self.reasons: dict[str, str] = {}  # of the files that are skipped
        before = self._layout(listing, listing.images) if settings.rules == 1 else None
        with warnings.catch_warnings():
            # `header` rejects such images, by a lower bound than Pillow's.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            look = partial(files.header, self.tree)
            self.headers: dict[str, Header] = dict(
                self._working(look, listing.images, self.skipped, "Checking")
            )
        if not self.headers:
            raise DataError(f"no image of {path} can be read; {self.skipped[0]}")
        self.names = listing.images if before else list(self.headers)
        self.layout = before or self._layout(listing, self.names)
        grey = all(found.grey for found in self.headers.values()) and settings.rules != 1
        self.form = Form(
            settings.channels or (1 if grey else 3),
            settings.height_width or (SIDE, SIDE),
            settings.fit,
            None if settings.range == "auto" else settings.range,
        )

    def open(self, split: str, memory: int) -> Images:
        """The images of a split.

        Sets that do not fit into memory are decoded batch by batch: a damaged file is then found
        when its batch is read, or, if it is to be skipped, at once, by decoding everything one
        time.

        Args:
          split: "train", "test", "validation" where there is one, or "all".
          memory: bytes of pixels up to which all images are decoded at once and held in RAM.

        Returns:
          The images.

        Raises:
          DataError: where there is no such image, or for a bad file that is not skipped.
        """
        chosen = [
            _File(self.names[i], self.layout.groups[i], frame)
            for i in self._indices(split)
            if self.names[i] in self.headers
            for frame in range(self._frames(self.names[i]))
        ]
        assert self.form.size is not None

        def read(file: _File) -> np.ndarray:
            return files.read_image(self.tree, file.name, self.form, file.frame)

        skipped: list[str] = []
        shape = (len(chosen), *self.form.size, self.form.channels)
        image = np.empty(shape, np.uint8) if int(np.prod(shape)) <= memory else None
        if image is not None or self.settings.bad == "skip":
            readable: list[_File] = []
            for file, pixels in self._working(read, chosen, skipped, "Reading"):
                if image is not None:
                    image[len(readable)] = pixels
                readable.append(file)
            chosen = readable
        if not chosen:
            raise DataError(f"no image of {self.path} can be read; {(self.skipped + skipped)[0]}")
        label, classes = self._labels(chosen)
        return Images(
            Files(chosen, label, read) if image is None else InMemory(image[: len(chosen)], label),
            (len(chosen), *shape[1:]),
            self.name,
            split,
            labelled=label is not None,
            classes=classes,
            skipped=(*self.skipped, *skipped),
        )

    @property
    def brightest(self) -> tuple[int, int] | None:
        """The highest value in 64 of the files, before resizing, and the highest possible."""
        some = np.unique(np.linspace(0, len(self.headers) - 1, 64).astype(int))
        names = [*self.headers]
        found = [files.brightest(self.tree, names[i]) for i in some]
        return max((pair for pair in found if pair), default=None)

    @property
    def report(self) -> Report:
        """What was understood."""
        used = self.headers.values()
        notes = list(self.layout.notes)
        if self.settings.channels is None and self.form.channels == 1:
            notes.append("every image is grey: read with 1 channel (--data.channels 3 for 3)")
        if (count := sum(h.transparent for h in used)) and self.form.channels != 4:
            notes.append(f"{count} images with transparency are put on white (--data.channels 4)")
        if count := sum(h.frames > 1 for h in used):
            which = "all are used" if self.settings.frames == "all" else "the first is used"
            notes.append(f"{count} files hold several images: {which} (--data.frames)")
        if self.settings.rules == 1:
            notes.append("understood by the rules of earlier versions (--data.rules 1)")
        return Report(
            splits={name: len(rows) for name, rows in self.layout.splits.items()},
            held_out=self.layout.held_out,
            skipped={
                **{f"{suffix}, no known image format": n for suffix, n in self.others.items()},
                **self.layout.skipped,
                **Counter(self.reasons.values()),
            },
            sizes=_sorted(f"{h.size[1]}x{h.size[0]}" for h in used),
            modes=_sorted(h.mode for h in used),
            notes=tuple(notes),
        )

    def _layout(self, listing: Listing, names: list[str]) -> Layout:
        if self.settings.rules == 1:
            every = (*listing.images, *listing.others, *listing.folders)
            return understand_as_before(names, {name.partition("/")[0] for name in every})
        try:
            return understand(names, listing.folders, self.settings.subfolders)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _indices(self, split: str) -> np.ndarray:
        splits = self.layout.splits
        if split == "all":
            return np.sort(np.concatenate([*splits.values()]))
        found = splits.get(split, splits.get(split_named(split) or ""))
        if found is None:
            raise DataError(f"{self.path} has no split {split!r}: take {', '.join(splits)} or all")
        if not len(found):
            raise DataError(
                f"{self.path} holds no image for the split {split!r}"
                + (": one image cannot be split, add some" if len(self.names) == 1 else "")
            )
        return found

    def _frames(self, name: str) -> int:
        frames = self.headers[name].frames if self.settings.frames == "all" else 1
        if frames > files.MAX_FRAMES:
            raise DataError(f"{self.path / name}: {frames:,} frames, over {files.MAX_FRAMES:,}")
        return frames

    def _labels(self, files: Sequence[_File]) -> tuple[np.ndarray | None, tuple[str, ...]]:
        groups, classes = [file.group for file in files], self.layout.classes
        if self.settings.rules == 1:
            classes = () if "" in groups else tuple(sorted({*groups}))
        if not classes:
            return None, ()
        number = {name: i for i, name in enumerate(classes)}
        return np.array([number[group] for group in groups], np.int32), classes

    def _working(
        self, work: Callable[[Any], Any], items: Sequence[T], skipped: list[str], title: str
    ) -> Iterator[tuple[T, Any]]:
        """Yields the items on which `work` succeeds, in order, with its result.

        A progress bar appears after two seconds.
        """

        def attempt(item: T) -> Any:
            try:
                return work(item)
            except FileError as error:
                return error

        bar = tqdm.tqdm(total=len(items), desc=title, delay=2, leave=False, disable=None)
        with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(items), 256):  # in blocks, so that an error is raised early
                some = items[start : start + 256]
                for item, result in zip(some, pool.map(attempt, some), strict=True):
                    bar.update()
                    if not isinstance(result, FileError):
                        yield item, result
                    elif self.settings.bad == "skip":
                        skipped.append(str(result))
                        self.reasons[str(item)] = result.reason
                    else:
                        raise DataError(f"{result}; --data.bad skip skips such files") from result


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    group: str  # its class, or ""
    frame: int


@dataclass(frozen=True, eq=False)
class Files:
    """A source that decodes files on demand.

    Attributes:
      files: the N files.
      label: class numbers int32 [N], or None.
      read: file -> uint8 [H, W, C].
    """

    files: Sequence[Any]
    label: np.ndarray | None
    read: Callable[[Any], np.ndarray]

    def __getitem__(self, indices: np.ndarray) -> Batch:
        batch = {"image": np.stack([self.read(self.files[i]) for i in indices])}
        if self.label is not None:
            batch["label"] = self.label.take(indices)
        return batch


def _sorted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(4))
