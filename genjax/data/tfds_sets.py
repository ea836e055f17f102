"""A prepared TFDS data set as `Images`, read without TensorFlow and decoded with Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from PIL import Image

from genjax.data import manifest
from genjax.data.errors import DataError
from genjax.data.images import Batch, Images, InMemory
from genjax.data.pixels import Form, to_array
from genjax.data.preparation import find_or_prepare
from genjax.data.report import Report
from genjax.data.settings import MAX_SIDE, DataSettings


@dataclass(frozen=True, eq=False)
class Records:
    """A source that reads records by index.

    Attributes:
      folder: of the prepared data set.
      records: TFDS' data source of serialised examples.
      features: those to decode.
      image_key: which feature is the image.
      label_key: which feature is the label, or None.
      shape: (H, W, C) of an image.
      form: that the images are brought to.
    """

    folder: Path
    records: Any
    features: tfds.features.FeaturesDict
    image_key: str
    label_key: str | None
    shape: tuple[int, int, int]
    form: Form

    def examples(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Reads and decodes examples.

        Args:
          indices: of the examples, [n].

        Returns:
          n dicts of `features`, the image as uint8 [H, W, C].
        """
        # TFDS' own decoding needs OpenCV, and does not convert a grey JPEG among colour ones.
        skip = {self.image_key: tfds.decode.SkipDecoding()}
        try:
            found = [
                self.features.deserialize_example_np(record, decoders=skip)
                for record in self.records.__getitems__(indices.tolist())
            ]
            for example in found:
                with Image.open(io.BytesIO(example[self.image_key])) as image:
                    self._check(image)
                    example[self.image_key] = to_array(image, self.form)
        except Exception as error:  # array_record detects flipped bytes by its hashes
            raise _unreadable(self.folder, error) from error
        return found

    def _check(self, image: Image.Image) -> None:
        """Checks the size in the header, before pixels are decoded."""
        height, width, _ = self.shape
        if max(image.size) > MAX_SIDE or (self.form.size is None and image.size != (width, height)):
            raise DataError(
                f"an image of {image.size} pixels where features.json says {(width, height)}"
            )

    def __getitem__(self, indices: np.ndarray) -> Batch:
        examples = self.examples(indices)
        batch = {"image": np.stack([example[self.image_key] for example in examples])}
        if self.label_key is not None:
            batch["label"] = np.array([example[self.label_key] for example in examples], np.int32)
        return batch


def _image_key(info: tfds.core.DatasetInfo) -> str:
    keys = [k for k, feature in info.features.items() if type(feature) is tfds.features.Image]
    if not keys:
        raise DataError(f"{info.name} has no images, only {', '.join(info.features)}")
    key = "image" if "image" in keys else min(keys)
    if info.features[key].np_dtype != np.uint8:
        raise DataError(f"the images of {info.name} are {info.features[key].np_dtype}, not uint8")
    return key


def _label_key(info: tfds.core.DatasetInfo) -> str | None:
    """The class label: the supervised target, else "label", else the only one."""
    keys = [k for k, v in info.features.items() if isinstance(v, tfds.features.ClassLabel)]
    target = info.supervised_keys[1] if info.supervised_keys else None
    only = keys[0] if len(keys) == 1 else None
    return next((key for key in (target, "label", only) if key in keys), None)


def _factor_keys(info: tfds.core.DatasetInfo) -> list[str]:
    """The scalar features: classes and numbers."""
    return sorted(
        key
        for key, feature in info.features.items()
        if isinstance(feature, tfds.features.Tensor)
        and feature.shape == ()
        and np.dtype(feature.np_dtype).kind in "biuf"
    )


class TfdsSet:
    """The images of a TFDS data set, by split.

    Args:
      data_dir: where data sets are or will be prepared.
      settings: which data set, and how to read it.

    Raises:
      DataError: where it is unavailable.
    """

    def __init__(self, data_dir: Path, settings: DataSettings):
        self.settings = settings
        self.folder = find_or_prepare(settings.name, data_dir, download=settings.download)
        manifest.check(self.folder)
        try:
            self.builder = tfds.builder_from_directory(self.folder)
        except Exception as error:
            raise _unreadable(self.folder, error) from error

    def open(self, split: str, memory: int) -> Images:
        """The images of a split.

        Args:
          split: as in TFDS.
          memory: bytes of pixels up to which all images are decoded at once and held in RAM.

        Returns:
          The images.

        Raises:
          DataError: where there are no such images, or they differ in size and none is asked for.
        """
        info, name, size = self.builder.info, self.settings.name, self.settings.height_width
        split, records = self._records(split)
        image_key, label_key, factor_keys = _image_key(info), _label_key(info), _factor_keys(info)
        height, width, depth = info.features[image_key].shape
        height, width = size or (height, width)
        if height is None or width is None:
            raise DataError(
                f"the images of {name} have many sizes: give the size to resize them to"
            )
        channels = self.settings.channels or (1 if depth == 1 else 3)
        shape = (len(records), height, width, channels)
        small = int(np.prod(shape)) <= memory
        wanted = {
            image_key,
            *([label_key] if label_key else []),
            *(factor_keys if small else []),
        }
        features = tfds.features.FeaturesDict({key: info.features[key] for key in wanted})
        names = {
            key: tuple(feature.names or map(str, range(feature.num_classes)))
            for key, feature in features.items()
            if isinstance(feature, tfds.features.ClassLabel)
        }
        classes = names.get(label_key, ())
        form = Form(channels, size, self.settings.fit)
        source = Records(self.folder, records, features, image_key, label_key, shape[1:], form)
        if not small:
            return Images(source, shape, name, split, label_key is not None, classes)
        columns = _read_all(source, shape, name)
        if columns[image_key].max() == 1:  # binary images, scaled to black and white
            columns[image_key] *= 255
        label = columns[label_key].astype(np.int32) if label_key else None
        return Images(
            InMemory(columns[image_key], label),
            shape,
            name,
            split,
            labelled=label_key is not None,
            classes=classes,
            factors={key: columns[key] for key in factor_keys},
            factor_classes=names,
        )

    @property
    def brightest(self) -> None:
        """Not known beyond what the images show."""
        return None

    @property
    def report(self) -> Report:
        """What was understood."""
        splits = self.builder.info.splits
        held_out = _existing("test", set(splits))
        return Report(
            splits={name: split.num_examples for name, split in splits.items()},
            held_out=f"the split {held_out}",
        )

    def _records(self, split: str) -> tuple[str, Any]:
        info = self.builder.info
        split = _existing(split, set(info.splits))
        try:
            count = info.splits[split].num_examples
        except (KeyError, ValueError):
            count = 0
        if not count:
            raise DataError(
                f"{info.name} has no images in split {split!r}: take one of"
                f" {', '.join(info.splits)}, or a slice such as train[:10%]"
            )
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        try:
            return split, self.builder.as_data_source(split, deserialize_method=raw)
        except NotImplementedError as error:
            raise DataError(
                f"{self.folder} is {info.file_format.value}, which only TensorFlow reads: prepare"
                f" {info.name} with file_format='array_record' in another data directory"
            ) from error
        except Exception as error:
            raise _unreadable(self.folder, error) from error


def _existing(split: str, splits: set[str]) -> str:
    """Replaces a missing test split: by validation, else by the last tenth of train."""
    if split == "test" and "test" not in splits and "validation" in splits:
        return "validation"
    if splits == {"train"}:
        return {"train": "train[:90%]", "test": "train[90%:]"}.get(split, split)
    return split


def _read_all(source: Records, shape: tuple[int, ...], name: str) -> dict[str, np.ndarray]:
    """Every feature as one array, with a progress bar after two seconds."""
    image = np.empty(shape, np.uint8)
    rest: dict[str, list[Any]] = {key: [] for key in source.features if key != source.image_key}
    for start in tqdm.trange(
        0, len(image), 1000, desc=f"Reading {name}", delay=2, leave=False, disable=None
    ):
        part = source.examples(np.arange(start, min(start + 1000, len(image))))
        for i, example in enumerate(part, start):
            image[i] = example[source.image_key]
            for key, values in rest.items():
                values.append(example[key])
    return {source.image_key: image, **{key: np.array(values) for key, values in rest.items()}}


def _unreadable(folder: Path, error: Exception) -> DataError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{folder} cannot be read ({first}): delete it and prepare it again")
