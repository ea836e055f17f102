"""Official data sets prepared in $GENJAX_DATA_DIR: the images are the published ones."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from genjax.data import open_images
from genjax.data.preparation import prepared

DATA_DIR = Path(os.environ.get("GENJAX_DATA_DIR", "."))


def official(name, split):
    if prepared(name, DATA_DIR) is None:
        pytest.skip(f"$GENJAX_DATA_DIR holds no prepared {name}")
    return open_images(name, split=split, data_dir=DATA_DIR)


@pytest.mark.parametrize(
    ("name", "split", "shape", "classes"),
    [
        ("mnist", "test", (10_000, 28, 28, 1), 10),
        ("fashion_mnist", "test", (10_000, 28, 28, 1), 10),
        ("binarized_mnist", "test", (10_000, 28, 28, 1), 0),
        ("cifar10", "test", (10_000, 32, 32, 3), 10),
        ("imagenette64", "test[:1000]", (1000, 64, 64, 3), 10),
    ],
)
def test_a_set_has_its_shape_and_classes(name, split, shape, classes):
    images = official(name, split)
    assert images.shape == shape
    assert images.num_classes == classes
    assert images.labelled == bool(classes)


def test_cifar10_holds_the_published_pixels():
    images = official("cifar10", "test").source.image
    # TFDS shuffles when it prepares; its ids, test_00000 and on, give the published order back.
    records = tfds.builder_from_directory(prepared("cifar10", DATA_DIR)).as_data_source(
        "test", decoders={"image": tfds.decode.SkipDecoding()}
    )
    order = np.argsort([record["id"] for record in records])
    digest = hashlib.sha256(images[order].tobytes()).hexdigest()
    assert digest.startswith("f9b1e2130bab")  # of the images in the official binary files


def test_binarized_mnist_is_binary():
    images = official("binarized_mnist", "test").source.image
    assert np.unique(images).tolist() == [0, 255]


def test_part_of_an_evaluation_is_a_fair_sample():
    images = official("mnist", "test")
    n = 2000
    shares = np.bincount(next(images.evaluation_batches(n))["label"], minlength=10) / n
    full = np.bincount(images.source.label, minlength=10) / len(images)
    # Five standard errors of a share near 0.1 among n drawn.
    assert np.abs(shares - full).max() < 5 * np.sqrt(0.1 * 0.9 / n)
