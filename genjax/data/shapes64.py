"""A data set of 6,000 + 1,000 drawn images of one shape each, 64x64x3, with all factors."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from genjax.data import drawing

COUNT = {"train": 6000, "test": 1000}
CLASSES: dict[str, Iterable[str]] = {
    "shape": drawing.SHAPES,
    "colour": drawing.COLOURS,
    "size": drawing.SIZES,
    "background": drawing.BACKGROUNDS,
    "place": drawing.PLACES,
}


class Shapes64(tfds.core.GeneratorBasedBuilder):
    """Image i of a split shows `drawing.factors` of index i, in stream 0 (train) or 1 (test).

    Attributes:
      name: of the TFDS data set.
      VERSION: of the TFDS data set.
    """

    name = "shapes64"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        numbers = set(drawing.Factors._fields) - set(CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            description="One shape before a background, drawn by program; every factor is known.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(drawing.EDGE, drawing.EDGE, 3)),
                    **{k: tfds.features.ClassLabel(names=list(v)) for k, v in CLASSES.items()},
                    **{k: tfds.features.Scalar(np.float32) for k in sorted(numbers)},
                }
            ),
            supervised_keys=("image", "shape"),
            disable_shuffling=True,  # the factors are random already
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in COUNT}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        stream = list(COUNT).index(split)
        for start in range(0, COUNT[split], 250):  # 250 images at once: fast, and 50 MB
            factors = drawing.factors(np.arange(start, start + 250), stream)
            images = drawing.draw(factors)
            for i, (image, *values) in enumerate(zip(images, *factors, strict=True), start):
                named = dict(zip(factors._fields, (v.item() for v in values), strict=True))
                yield i, {"image": Image.fromarray(image), **named}
