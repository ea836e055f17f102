"""The bundled default: 6,000 + 1,000 images of Fashion-MNIST, 28x28x1, class-balanced."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PER_CLASS = {"train": 600, "test": 100}
ARCHIVE = Path(__file__).with_suffix(".npz")


def chosen(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Indices of the first images of each class, in the order of the original file.

    The archive beside this file was made from Zalando's four idx files by

        keep = chosen(labels, PER_CLASS[split])
        np.savez_compressed(ARCHIVE, **{f"{split}_images": images[keep], …})

    with uint8 images [n, 28, 28] and uint8 labels [n]; a test reproduces it where the idx files are
    installed (Debian's package dataset-fashion-mnist).

    Args:
      labels: of the original file, [N].
      per_class: number of images of each class.

    Returns:
      [10 · per_class], ascending.
    """
    first = [np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASSES))]
    return np.sort(np.concatenate(first))


class FashionMnist6k(tfds.core.GeneratorBasedBuilder):
    """A class-balanced subset of Fashion-MNIST (MIT licence).

    Attributes:
      name: of the TFDS data set.
      VERSION: of the TFDS data set.

    References:
      Xiao, Rasul & Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
      Learning Algorithms" (2017), arXiv:1708.07747.
    """

    name = "fashion_mnist_6k"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The first 600 train and 100 test images of each class of Fashion-MNIST.",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            license="MIT, Copyright (c) 2017 Zalando SE",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the archive's order is already random
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in PER_CLASS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        with np.load(ARCHIVE) as archive:
            images, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            # A PIL image: TFDS would encode an array with TensorFlow.
            yield i, {"image": Image.fromarray(image), "label": int(label)}
