"""A set of uint8 images, and the batches that a run draws from it."""

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
_BLOCK = 256  # images read together where only their labels are wanted


class Source(Protocol):
    """Anything that returns images by index."""

    def __getitem__(self, indices: np.ndarray) -> Batch:
        """{"image": uint8 [n, H, W, C]} and, where there are labels, "label": int32 [n]."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """A source whose images are one array, in RAM or memory-mapped.

    Attributes:
      image: uint8 [N, H, W, C].
      label: class numbers int32 [N], or None.
    """

    image: np.ndarray
    label: np.ndarray | None = None

    def __getitem__(self, indices: np.ndarray) -> Batch:
        batch = {"image": self.image.take(indices, axis=0)}
        if self.label is not None:
            batch["label"] = self.label.take(indices)
        return batch


@dataclass(frozen=True, eq=False)
class Images:
    """N images of one shape, by index and by batch.

    Attributes:
      source: the images by index.
      shape: (N, H, W, C).
      name: of the data set.
      split: which part of the data set.
      labelled: whether there are labels.
      classes: names of the classes.
      factors: what else is known of each image (a drawing's colour, size, …), {name: [N]}.
      factor_classes: names of the classes of each categorical factor.
      skipped: one line about each file that was skipped.
    """

    source: Source
    shape: tuple[int, int, int, int]
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
        """Number of classes, 0 where there are no labels."""
        return len(self.classes)

    @property
    def in_memory(self) -> bool:
        """Whether `source.image` is the complete set as one array, uint8 [N, H, W, C]."""
        return isinstance(self.source, InMemory)

    def labels(self) -> np.ndarray:
        """Class numbers of all images.

        Returns:
          int32 [N].

        Raises:
          DataError: where the set has no labels.
        """
        if not self.labelled:
            raise DataError(f"{self.name} {self.split} has no labels")
        if isinstance(self.source, InMemory) and self.source.label is not None:
            return self.source.label
        starts = range(0, len(self), _BLOCK)
        rows = (np.arange(i, min(i + _BLOCK, len(self))) for i in starts)
        return np.concatenate([self.source[some]["label"] for some in rows])

    def steps_per_epoch(self, size: int) -> float:
        """Steps per epoch, not rounded, as batches continue across the end of an epoch.

        Args:
          size: images per batch.

        Returns:
          N / size.
        """
        return len(self) / size

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the shape, the class names and 64 evenly spaced images with their labels.

        It detects another set, split, size or crop, but not a change to a single image in between.
        """
        digest = hashlib.sha256(repr((self.shape, self.classes)).encode())
        some = np.unique(np.linspace(0, len(self) - 1, 64).astype(np.int64))
        for key, value in sorted(self.source[some].items()):
            digest.update(key.encode() + np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:32]

    def batch(
        self, seed: int, b: int, size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Batch:
        """This process's share of batch b of a run, a pure function of (seed, b).

        Args:
          seed: of the order of the images.
          b: number of the batch, from 0.
          size: images per batch, over all processes.
          process_index: k; process k of P reads rows k · size / P to (k + 1) · size / P.
          process_count: P.

        Returns:
          {"image": uint8 [size / P, H, W, C], "label": int32 [size / P]}, the label only where the
          set has labels.
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
        """The batches from `start` on, prefetched by threads.

        The i-th equals `batch(seed, start + i, size)`, so that a run resumes from its step number.

        Args:
          seed: of the order of the images.
          start: number of the first batch.
          size: images per batch, over all processes.
          scan_steps: n, successive batches to stack for a scan over steps; None for single batches.
          stop: end of the numbers, excluded; None for no end.
          process_index: as for `batch`.
          process_count: as for `batch`.

        Returns:
          An iterator over {"image": [size / P, ...], …}; with `scan_steps` over
          {"image": [n, size / P, ...], …}, the last of which may stack fewer before `stop`.
        """
        rows = self._rows(seed, size, scan_steps, stop, process_index, process_count)

        def read(b: int) -> Batch:
            indices = rows(b)
            flat = self.source[indices.ravel()]
            if scan_steps is None:
                return flat
            return {k: v.reshape(*indices.shape, *v.shape[1:]) for k, v in flat.items()}

        if stop is None or start < stop:
            rows(start)  # raises an invalid batch size here, not inside a thread
        return prefetched(read, start, stop, scan_steps or 1, light=self.in_memory)

    @property
    def arrays(self) -> Batch | None:
        """The complete set, named like a batch, [N, ...] each; None where it is not in memory."""
        if not isinstance(self.source, InMemory):
            return None
        image = {"image": self.source.image}
        return image if self.source.label is None else {**image, "label": self.source.label}

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
        """The indices of the images in `batches`, for data that is on the device.

        Args:
          seed: of the order of the images.
          start: number of the first batch.
          size: images per batch, over all processes.
          scan_steps: n, successive batches to stack.
          stop: end of the numbers, excluded.
          process_index: as for `batch`.
          process_count: as for `batch`.

        Returns:
          An iterator over int32 [n, size / P], indices into `arrays`.
        """
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
        """Each image once, in random order, for scores.

        In random order because the first n images of a test set are not a fair sample of it. All
        batches have the same shape: the last one is padded with other images, masked out by "mask".

        Args:
          size: images per batch, over all processes.
          limit: number of images after which to stop; None for all.
          seed: of the order of the images.
          process_index: as for `batch`.
          process_count: as for `batch`.

        Yields:
          A batch, with "mask" bool [size / P], False for padding.
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
    """Makes `Images` of arrays.

    Args:
      image: uint8 [N, H, W, C].
      label: class numbers [N], or None.
      name: of the data set.
      split: which part of the data set.
      classes: names of the classes.

    Returns:
      The images.

    Raises:
      DataError: where the arrays have other types or shapes.
    """
    if image.ndim != 4 or image.dtype != np.uint8 or not len(image):
        raise DataError(
            f"images must be uint8 [N, H, W, C] with N > 0, got {image.dtype} {image.shape}"
        )
    if label is not None:
        if label.shape != image.shape[:1]:
            raise DataError(
                f"one label per image: give labels of shape {image.shape[:1]}, got {label.shape}"
            )
        label = label.astype(np.int32)
    source = InMemory(image, label)
    return Images(source, image.shape, name, split, label is not None, classes)
