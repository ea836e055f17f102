"""Images: a set of uint8 pictures and the batches a run draws from it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from genjax.data.errors import DataError
from genjax.data.order import batch_indices
from genjax.data.prefetch import prefetched

Batch = dict[str, np.ndarray]


class Source(Protocol):
    """Anything that gives images by index."""

    def __getitem__(self, indices: np.ndarray) -> Batch:
        """{"image": uint8 [n, H, W, C]} and, where there are labels, "label": int32 [n]."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """A source whose images are one array, in RAM or memory mapped."""

    image: np.ndarray  # uint8 [N, H, W, C]
    label: np.ndarray | None = None  # int32 [N]

    def __getitem__(self, indices: np.ndarray) -> Batch:
        batch = {"image": self.image.take(indices, axis=0)}
        if self.label is not None:
            batch["label"] = self.label.take(indices)
        return batch


@dataclass(frozen=True, eq=False)
class Images:
    """N images of one shape, by index and by batch.

    `factors` holds what else is known of each image (a drawing's colour, size, …), [N] each, and
    `factor_classes` the names of those that are classes; `skipped` says which files were left out.
    """

    source: Source
    shape: tuple[int, int, int, int]  # [N, H, W, C]
    name: str
    split: str
    labelled: bool = False
    classes: tuple[str, ...] = ()
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    factor_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_memory(self) -> bool:
        """Whether `source.image` is the whole set as one array uint8 [N, H, W, C]."""
        return isinstance(self.source, InMemory)

    def steps_per_epoch(self, size: int) -> float:
        """N / size: not rounded, as batches run on across the end of an epoch."""
        return len(self) / size

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the shape, the class names and 64 evenly spaced images with their labels.

        Tells another set, split, size or crop; not a change to one single image in between.
        """
        digest = hashlib.sha256(repr((self.shape, self.classes)).encode())
        some = np.unique(np.linspace(0, len(self) - 1, 64).astype(np.int64))
        for key, value in sorted(self.source[some].items()):
            digest.update(key.encode() + np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:32]

    def batch(
        self, seed: int, b: int, size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Batch:
        """Batch b of a run: a pure function of (seed, b), this process's slice of it.

        {"image": uint8 [size / P, H, W, C], "label": int32 [size / P]}, the label only where the
        set has one. Process k of P gets rows k * size / P and on.
        """
        indices = batch_indices(
            seed, b, size, len(self), process_index=process_index, process_count=process_count
        )
        return self.source[indices[0]]

    def batches(
        self,
        seed: int,
        start: int,
        size: int,
        *,
        scan_steps: int | None = None,
        stop: int | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """The batches start, start + 1, … (< stop), read ahead by threads.

        With `scan_steps=n` each item holds n successive batches, [n, size / P, …], for a scan over
        steps; the last before `stop` may hold fewer. Item i equals `batch(seed, start + i, size)`
        whatever `start` was, so a step number is all that a restart needs.
        """
        rows = self._rows(seed, size, scan_steps, stop, process_index, process_count)

        def read(b: int) -> Batch:
            indices = rows(b)
            flat = self.source[indices.ravel()]
            if scan_steps is None:
                return flat
            return {k: v.reshape(*indices.shape, *v.shape[1:]) for k, v in flat.items()}

        if stop is None or start < stop:
            rows(start)  # a batch that cannot be had is refused here, not inside a thread
        return prefetched(read, start, stop, scan_steps or 1, light=self.in_memory)

    @property
    def arrays(self) -> Batch | None:
        """The whole set as `batch` names it, [N, …] each, where it is in memory."""
        if not isinstance(self.source, InMemory):
            return None
        whole = {"image": self.source.image}
        return whole if self.source.label is None else {**whole, "label": self.source.label}

    def index_batches(
        self,
        seed: int,
        start: int,
        size: int,
        *,
        scan_steps: int,
        stop: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[np.ndarray]:
        """What `batches` reads: int32 [n, size / P] into `arrays`, for data on the device."""
        rows = self._rows(seed, size, scan_steps, stop, process_index, process_count)
        return (rows(b).astype(np.int32) for b in range(start, stop, scan_steps))

    def _rows(
        self,
        seed: int,
        size: int,
        scan_steps: int | None,
        stop: int | None,
        process_index: int,
        process_count: int,
    ) -> Callable[[int], np.ndarray]:
        def rows(b: int) -> np.ndarray:
            return batch_indices(
                seed,
                b,
                size,
                len(self),
                scan_steps=min(scan_steps or 1, sys.maxsize if stop is None else stop - b),
                process_index=process_index,
                process_count=process_count,
            )

        return rows

    def mean(self) -> np.ndarray:
        """The mean of all images.

        Returns:
          float64 [H, W, C], in 0..255.
        """
        total = np.zeros(self.shape[1:], np.float64)
        for start in range(0, len(self), 4096):
            rows = np.arange(start, min(start + 4096, len(self)))
            total += self.source[rows]["image"].sum(0, np.float64)
        return total / len(self)

    def evaluation_batches(
        self,
        size: int,
        *,
        limit: int | None = None,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Each image once, in the random order of a seed, for scores.

        A random order because the first n images of a test set are not a fair sample of it;
        `limit=n` stops after n images. All batches have the same shape: where the images run out
        the last one is filled up with others, told apart by "mask", bool [size / P], False for
        the filling.
        """
        n = min(len(self), limit or len(self))
        for b in range(-(-n // size)):
            rows = batch_indices(
                seed,
                b,
                size,
                len(self),
                process_index=process_index,
                process_count=process_count,
            )[0]
            first = b * size + process_index * len(rows)
            mask = np.arange(first, first + len(rows)) < n
            yield {**self.source[rows], "mask": mask}


def images_from_arrays(
    image: np.ndarray,
    label: np.ndarray | None = None,
    *,
    name: str = "arrays",
    split: str = "all",
    classes: tuple[str, ...] = (),
) -> Images:
    """`Images` of an array uint8 [N, H, W, C] and class numbers [N]."""
    if image.ndim != 4 or image.dtype != np.uint8 or not len(image):
        raise DataError(
            f"images must be uint8 [N, H, W, C] with N > 0, got {image.dtype} {image.shape}"
        )
    if label is not None:
        if label.shape != image.shape[:1]:
            raise DataError(
                f"one label an image: give labels of shape {image.shape[:1]}, got {label.shape}"
            )
        label = label.astype(np.int32)
    source = InMemory(image, label)
    return Images(source, image.shape, name, split, label is not None, classes)
