"""Batches of uint8 images from one array in memory: genjax.data, NumPy, torch's DataLoader."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.cases import Case, Contender
from benchmarks.random_images import random_images

COUNT = 20_000


class Feeding:
    """Reads batch after batch, every epoch in another order."""

    parameters, init_seconds = 0, 0.0

    def __init__(self, case: Case, contender: Contender, *, bfloat16: bool = False):
        make = {"genjax": _genjax, "numpy": _numpy, "torch": _torch}[contender.library]
        self.batches: Iterator[Any] = make(random_images(case, COUNT), case.batch, contender)

    def run(self, units: int) -> int:
        """Reads at least that many images, in complete batches; returns how many."""
        images = 0
        while images < units:
            images += next(self.batches)
        return images


def _genjax(images: np.ndarray, batch: int, contender: Contender) -> Iterator[int]:
    from genjax.data import images_from_arrays

    stack = contender.scan_steps if contender.scan_steps > 1 else None
    for item in images_from_arrays(images).batches(0, 0, batch, scan_steps=stack):
        yield batch * (stack or 1) if item["image"].size else 0


def _numpy(images: np.ndarray, batch: int, contender: Contender) -> Iterator[int]:
    draw = np.random.default_rng(0)
    while True:
        order = draw.permutation(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            yield len(images[order[start : start + batch]])


def _torch(images: np.ndarray, batch: int, contender: Contender) -> Iterator[int]:
    import torch

    workers = 2 if "workers" in contender.way else 0
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(images)),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=bool(workers),
    )
    while True:
        yield from (len(x) for (x,) in loader)
