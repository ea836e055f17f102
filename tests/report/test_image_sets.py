"""Many images as files: complete or absent, and never over anything else."""

import csv
import shutil
import zipfile
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from genjax import data
from genjax.errors import ConfigError
from genjax.report.image_sets import class_folders, write_npz, write_pngs

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)
LABELS = np.arange(7, dtype=np.int32) % 3
NAMES = ("a", "b, or c", "d")


def batches(images=IMAGES, labels=LABELS, stop=None):
    for start in range(0, len(images), 3):
        if start == stop:
            raise OSError(28, "No space left on device")
        batch = {"image": images[start : start + 3]}
        yield batch if labels is None else {**batch, "label": labels[start : start + 3]}


def test_an_npz_written_in_pieces_is_read_by_numpy(tmp_path):
    path = tmp_path / "x.npz"
    assert write_npz(path, batches(), 7) == (4, 5, 3)
    read = np.load(path)
    assert sorted(read.files) == ["images", "labels"]
    np.testing.assert_array_equal(read["images"], IMAGES)
    np.testing.assert_array_equal(read["labels"], LABELS)
    assert read["labels"].dtype == np.int32
    assert {member.compress_type for member in zipfile.ZipFile(path).filelist} == {8}  # deflated
    write_npz(path, batches(labels=None), 7)
    assert np.load(path).files == ["images"]


def test_a_folder_per_class_is_read_back_as_a_labelled_set(tmp_path):
    names = ("T-shirt/top", "train", "Bag")
    assert class_folders(names) == ["T-shirt_top", "train", "Bag"]
    assert class_folders(("a/b", "a_b", "..")) == ["0 a_b", "1 a_b", "2"]
    folder = tmp_path / "drawn"
    for _ in range(2):  # the second replaces the first
        write_pngs(folder, batches(), 7, names, by_class=True, card="# Drawn by a model\n")
    assert (folder / "README.md").read_text().startswith("# Drawn by a model\n")
    read = data.folder(folder, size=IMAGES.shape[1:3], subfolders="classes").split("all")
    assert read.classes == ("Bag", "T-shirt_top", "train")  # as folders are sorted
    arrays = read.arrays
    for number, name in enumerate(read.classes):
        ours = class_folders(names).index(name) == LABELS
        np.testing.assert_array_equal(arrays["image"][arrays["label"] == number], IMAGES[ours])


@pytest.mark.parametrize("change", ["README.md", "Bag/mine.txt", "labels.csv"])
def test_a_folder_per_class_with_other_things_is_left_alone(tmp_path, change):
    folder = tmp_path / "drawn"
    write_pngs(folder, batches(), 7, ("a", "b", "Bag"), by_class=True, card="# Drawn\n")
    if change == "labels.csv":  # folders of PNGs without it are somebody's data set
        (folder / change).unlink()
    else:
        (folder / change).write_text("mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigError, match="holds other things"):
        write_pngs(folder, batches(), 7, NAMES)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("grey", [False, True])
def test_a_folder_has_a_png_per_image_and_their_labels(tmp_path, grey):
    images = IMAGES[..., :1] if grey else IMAGES
    folder = tmp_path / "sample_0"
    for _ in range(2):  # the second replaces the first
        assert write_pngs(folder, batches(images), 7, NAMES) == images.shape[1:]
    assert [p.name for p in tmp_path.iterdir()] == ["sample_0"]
    names = [f"{i:06}.png" for i in range(7)]
    assert sorted(p.name for p in folder.iterdir()) == [*names, "labels.csv"]
    for name, image in zip(names, images, strict=True):
        read = np.asarray(Image.open(folder / name))
        np.testing.assert_array_equal(read, image[..., 0] if grey else image)
    rows = list(csv.reader((folder / "labels.csv").read_text().splitlines()))
    assert rows[0] == ["file", "label", "name"]
    assert rows[5] == ["000004.png", "1", "b, or c"]
    write_pngs(folder, batches(images, None), 7)
    assert sorted(p.name for p in folder.iterdir()) == names


@pytest.mark.parametrize("write", [write_npz, write_pngs])
@pytest.mark.parametrize("stop", [0, 3, 6])
def test_what_is_not_complete_is_not_there(tmp_path, write, stop):
    target = tmp_path / "x"
    with pytest.raises(OSError, match="No space"):
        write(target, batches(stop=stop), 7)
    assert not any(tmp_path.iterdir())
    write(target, batches(), 7)
    before = target.read_bytes() if target.is_file() else sorted(target.iterdir())
    with pytest.raises(OSError, match="No space"):
        write(target, batches(stop=stop), 7)
    assert before == (target.read_bytes() if target.is_file() else sorted(target.iterdir()))
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("write", [write_npz, write_pngs])
def test_too_many_for_the_disk_are_refused_by_the_size_of_the_first(tmp_path, write, monkeypatch):
    usage = namedtuple("usage", "free")
    per_image = 4096 if write is write_pngs else 3 * 4 * 5  # noise does not compress
    for free, fits in ((1.3 * per_image * 7, True), (0.9 * per_image * 7, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(free))
        if fits:
            write(tmp_path / "x", batches(), 7)
        else:
            with pytest.raises(ConfigError, match=r"^7 images take about .* give a smaller --n"):
                write(tmp_path / "y", batches(), 7)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "file").write_text("more")
    for name in ("mine", "link", "file"):
        with pytest.raises(ConfigError, match="holds other things"):
            write_pngs(tmp_path / name, batches(), 7)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "mine"]
