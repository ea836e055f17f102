"""TFDS image sets by name: found, prepared where they are our own, opened without TensorFlow."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from PIL import Image

from genjax.data.error import DataError
from genjax.data.fashion_mnist_6k import FashionMnist6k
from genjax.data.images import Batch, Images, in_memory
from genjax.data.picture import to_array

OWN = {builder.name: builder for builder in (FashionMnist6k,)}


def default_data_dir() -> Path:
    """Where TFDS itself keeps its sets: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def _versions(folder: Path) -> list[Path]:
    """The prepared versions in a folder, the newest first."""
    found = [
        path
        for path in folder.glob("*.*.*")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / "dataset_info.json").is_file()
    ]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")])[::-1]


def prepared(name: str, data_dir: Path) -> Path | None:
    """The directory of a prepared set `name[/config][:version]`, or None."""
    folder, _, version = name.partition(":")
    versions = _versions(data_dir / folder)
    return next((path for path in versions if version in ("", path.name)), None)


def _prepare_own(builder: type[tfds.core.GeneratorBasedBuilder], data_dir: Path) -> None:
    """Prepare one of our own sets, whole or not at all.

    It is written into a directory of its own and renamed: of two processes that start at once the
    second finds the set there, and a kill leaves only a directory that nobody reads.
    """
    final = data_dir / builder.name / str(builder.VERSION)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".preparing-", dir=final.parent))
    except OSError as error:
        raise DataError(
            f"cannot prepare {builder.name} in {data_dir} ({error.strerror}):"
            " give another data directory"
        ) from error
    try:
        config = tfds.download.DownloadConfig(compute_stats="skip", try_download_gcs=False)
        builder(data_dir=draft, file_format="array_record").download_and_prepare(
            download_config=config
        )
        try:
            (draft / builder.name / str(builder.VERSION)).rename(final)
        except OSError:
            if not (final / "dataset_info.json").is_file():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _image_key(features: Any) -> str:
    keys = [key for key, feature in features.items() if type(feature) is tfds.features.Image]
    if not keys:
        raise DataError(f"no image among the features {', '.join(features)}: take an image set")
    return "image" if "image" in keys else keys[0]


def _label_key(info: tfds.core.DatasetInfo) -> str | None:
    """The class label: the supervised target, else "label", else the only one there is."""
    keys = [
        key
        for key, feature in info.features.items()
        if isinstance(feature, tfds.features.ClassLabel)
    ]
    preferred = [(info.supervised_keys or ("", ""))[1], "label", keys[0] if len(keys) == 1 else ""]
    return next((key for key in preferred if key in keys), None)


@dataclass(frozen=True, eq=False)
class Records:
    """A source that reads a prepared split record by record and decodes with Pillow."""

    records: Sequence[dict[str, Any]]
    image_key: str
    label_key: str | None
    channels: int
    size: int | None

    def __getitem__(self, indices: np.ndarray) -> Batch:
        examples = self.records.__getitems__(indices.tolist())
        batch = {"image": np.stack([self._pixels(example) for example in examples])}
        if self.label_key is not None:
            batch["label"] = np.array([example[self.label_key] for example in examples], np.int32)
        return batch

    def _pixels(self, example: dict[str, Any]) -> np.ndarray:
        with Image.open(io.BytesIO(example[self.image_key])) as image:
            return to_array(image, self.channels, self.size)


def open_tfds(
    name: str, split: str, data_dir: Path, size: int | None, channels: int | None
) -> Images:
    folder = prepared(name, data_dir)
    if folder is None and name in OWN:
        _prepare_own(OWN[name], data_dir)
        folder = prepared(name, data_dir)
    if folder is None:
        raise DataError(f"{name} is not prepared in {data_dir}")
    builder = tfds.builder_from_directory(folder)
    info = builder.info
    image_key, label_key = _image_key(info.features), _label_key(info)
    height, width, depth = info.features[image_key].shape
    if size is not None:
        height = width = size
    if height is None or width is None:
        raise DataError(f"the images of {name} have many sizes: say which size they shall get")
    channels = channels or (1 if depth == 1 else 3)
    records = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    source = Records(records, image_key, label_key, channels, size)
    shape = (len(records), height, width, channels)
    classes = tuple(info.features[label_key].names) if label_key else ()
    image = np.empty(shape, np.uint8)
    label = np.empty(len(records), np.int32) if label_key else None
    for start in tqdm.trange(0, len(records), 1024, desc=f"reading {name}", delay=2):
        part = source[np.arange(start, min(start + 1024, len(records)))]
        image[start : start + 1024] = part["image"]
        if label_key:
            label[start : start + 1024] = part["label"]
    return in_memory(image, label, name=name, split=split, classes=classes)
