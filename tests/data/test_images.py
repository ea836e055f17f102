"""Batches of images: in the order of the seed, in the shapes that a step takes."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from genjax.data import DataError, images_from_arrays
from genjax.data.order import batch_indices

N = 50


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, 4, 5, 3), np.uint8)
    return images_from_arrays(pixels, np.arange(N) % 7, classes=tuple("abcdefg"))


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, genjax.data;"
        "print({'jax', 'tensorflow_datasets', 'grain', 'PIL'} & set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "set()"


def test_a_batch_holds_the_images_and_labels_of_its_indices(images):
    batch = images.batch(3, 8, 16)
    indices = batch_indices(3, 8, 16, N)[0]
    np.testing.assert_array_equal(batch["image"], images.source.image[indices])
    np.testing.assert_array_equal(batch["label"], indices % 7)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


def test_images_without_labels_give_batches_without(images):
    assert set(images_from_arrays(images.source.image).batch(0, 0, 4)) == {"image"}


@pytest.mark.parametrize("start", [0, 1, 7])
def test_the_iterator_yields_the_batches_from_any_start(images, start):
    for b, batch in enumerate(itertools.islice(images.batches(1, start, 16), 9), start):
        expected = images.batch(1, b, 16)
        np.testing.assert_array_equal(batch["image"], expected["image"])
        np.testing.assert_array_equal(batch["label"], expected["label"])


def test_stacks_hold_successive_batches_and_end_at_the_stop(images):
    stacks = list(images.batches(1, 3, 8, scan_steps=4, stop=13))
    assert [stack["image"].shape[:2] for stack in stacks] == [(4, 8), (4, 8), (2, 8)]
    found = np.concatenate([stack["label"] for stack in stacks])
    np.testing.assert_array_equal(found, [images.batch(1, b, 8)["label"] for b in range(3, 13)])


def test_an_iterator_that_starts_at_its_stop_is_empty(images):
    assert list(images.batches(1, 5, 8, stop=5)) == []


def test_the_processes_of_an_iterator_share_each_batch(images):
    parts = [
        next(images.batches(1, 2, 8, scan_steps=3, process_index=k, process_count=2))
        for k in (0, 1)
    ]
    full = next(images.batches(1, 2, 8, scan_steps=3))
    found = np.concatenate([part["image"] for part in parts], axis=1)
    np.testing.assert_array_equal(found, full["image"])


def test_an_indivisible_batch_raises_before_any_thread_starts(images):
    with pytest.raises(DataError, match="does not divide over 3 processes"):
        images.batches(0, 0, 8, process_count=3)


@pytest.mark.parametrize(("size", "limit"), [(8, None), (50, None), (64, None), (8, 20), (8, 90)])
def test_evaluation_yields_each_image_once_in_batches_of_one_shape(images, size, limit):
    batches = list(images.evaluation_batches(size, limit=limit))
    assert {batch["image"].shape[0] for batch in batches} == {size}
    valid = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    n = min(N, limit or N)
    assert len(valid) == n
    assert len(np.unique(valid.reshape(n, -1), axis=0)) == n


def test_evaluation_has_a_fixed_order_other_than_that_of_the_files(images):
    labels = [next(images.evaluation_batches(size))["label"][:10] for size in (10, 20)]
    np.testing.assert_array_equal(*labels)
    assert labels[0].tolist() != (np.arange(10) % 7).tolist()


def test_evaluation_order_depends_on_the_seed_and_not_on_the_batch_size():
    images = images_from_arrays(np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1))

    def chosen(seed, size, n=25):
        batches = list(images.evaluation_batches(size, limit=n, seed=seed))
        assert {len(batch["image"]) for batch in batches} == {size}  # one shape, one program
        return np.concatenate([batch["image"][batch["mask"]].ravel() for batch in batches])

    assert len(set(chosen(0, 16).tolist())) == 25
    assert sorted(chosen(3, 16, 60).tolist()) == list(range(60))
    np.testing.assert_array_equal(chosen(1, 16), chosen(1, 5))
    assert set(chosen(0, 16).tolist()) != set(chosen(1, 16).tolist())
    # No prefix of the set: the mean of 25 of 0 … 59 is 29.5 ± 2.7 drawn at random, and 12 in order.
    assert abs(chosen(0, 16).mean() - 29.5) < 4 * 2.7


def test_processes_share_the_evaluation(images):
    full = [batch["image"][batch["mask"]] for batch in images.evaluation_batches(8)]
    parts = [list(images.evaluation_batches(8, process_index=k, process_count=2)) for k in (0, 1)]
    for together, *halves in zip(full, *parts, strict=True):
        valid = np.concatenate([half["image"][half["mask"]] for half in halves])
        np.testing.assert_array_equal(valid, together)


def test_the_fingerprint_distinguishes_data_sets(images):
    pixels, label = images.source.image, images.source.label
    others = [
        images_from_arrays(pixels, label),  # no class names
        images_from_arrays(pixels[::-1], label, classes=images.classes),
        images_from_arrays(pixels, label[::-1], classes=images.classes),
        images_from_arrays(pixels[:-1], label[:-1], classes=images.classes),
        images_from_arrays(pixels[:, :, :4], label, classes=images.classes),
    ]
    prints = [other.fingerprint for other in (images, *others)]
    assert len(set(prints)) == len(prints)
    same = images_from_arrays(pixels.copy(), label.copy(), classes=images.classes)
    assert same.fingerprint == images.fingerprint


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (np.zeros((3, 4, 4), np.uint8), None),
        (np.zeros((3, 4, 4, 1), np.float32), None),
        (np.zeros((0, 4, 4, 1), np.uint8), None),
        (np.zeros((3, 4, 4, 1), np.uint8), np.zeros(2, int)),
    ],
)
def test_arrays_that_are_not_images_raise(image, label):
    with pytest.raises(DataError):
        images_from_arrays(image, label)


def test_index_batches_are_the_batches_as_indices_into_the_arrays():
    images = images_from_arrays(np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1), np.arange(7))
    how = {"scan_steps": 2, "stop": 7, "process_index": 1, "process_count": 2}
    indices = list(images.index_batches(3, 2, 4, **how))
    assert [i.shape for i in indices] == [(2, 2), (2, 2), (1, 2)]
    for index, batch in zip(indices, images.batches(3, 2, 4, **how), strict=True):
        assert batch.keys() == images.arrays.keys() == {"image", "label"}
        for name, array in images.arrays.items():
            np.testing.assert_array_equal(array[index], batch[name])
