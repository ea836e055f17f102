"""The data sets of genjax: what they contain, and that they are prepared atomically."""

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genjax.data import DataError, drawing, fashion_mnist_6k, open_images
from genjax.data.fashion_mnist_6k import ARCHIVE, CLASSES, PER_CLASS, chosen
from genjax.data.shapes64 import COUNT

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def shapes(data_dir):
    return open_images("shapes64", data_dir=data_dir)


@pytest.mark.parametrize("split", PER_CLASS)
def test_the_fashion_subset_has_each_class_equally_often(data_dir, split):
    images = open_images(split=split, data_dir=data_dir)
    n = PER_CLASS[split] * len(CLASSES)
    assert images.shape == (n, 28, 28, 1)
    assert images.classes == CLASSES
    assert np.bincount(images.source.label).tolist() == [PER_CLASS[split]] * len(CLASSES)


@pytest.mark.parametrize("split", PER_CLASS)
def test_preparing_keeps_every_pixel_and_label_of_the_archive(data_dir, split):
    images = open_images(split=split, data_dir=data_dir)
    with np.load(ARCHIVE) as archive:
        np.testing.assert_array_equal(images.source.image[..., 0], archive[f"{split}_images"])
        np.testing.assert_array_equal(images.source.label, archive[f"{split}_labels"])


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
@pytest.mark.parametrize(("split", "stem"), [("train", "train"), ("test", "t10k")])
def test_the_archive_is_reproducible_from_the_original_files(split, stem):
    def read(kind, offset):
        with gzip.open(DEBIAN / f"{stem}-{kind}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    images, labels = read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8)
    keep = chosen(labels, PER_CLASS[split])
    with np.load(ARCHIVE) as archive:
        np.testing.assert_array_equal(archive[f"{split}_images"], images[keep])
        np.testing.assert_array_equal(archive[f"{split}_labels"], labels[keep])


def test_the_archive_is_small_and_has_its_licence():
    assert ARCHIVE.stat().st_size <= 4 << 20
    licence = Path(fashion_mnist_6k.__file__).with_suffix(".LICENSE").read_text()
    assert "MIT License" in licence
    assert "Zalando SE" in licence


@pytest.mark.slow
def test_drawn_images_match_their_factors(shapes):
    assert shapes.shape == (COUNT["train"], 64, 64, 3)
    assert shapes.classes == tuple(drawing.SHAPES)
    some = np.array([0, 1, 999, 5999])  # drawn alone they must equal those in the data set
    factors = drawing.factors(some, stream=0)
    np.testing.assert_array_equal(shapes.source.image[some], drawing.draw(factors))
    for key, values in factors._asdict().items():
        np.testing.assert_allclose(shapes.factors[key][some], values, rtol=1e-6)  # float32
    np.testing.assert_array_equal(shapes.source.label, shapes.factors["shape"])


def test_the_drawn_test_set_differs_from_the_train_set(shapes, data_dir):
    train = shapes.source.image
    test = open_images("shapes64", split="test", data_dir=data_dir).source.image
    both = np.concatenate([train, test]).reshape(len(train) + len(test), -1)
    assert len(np.unique(both[:, ::7], axis=0)) == len(both)


def test_factors_are_uniform_and_independent():
    n = 6000
    factors = drawing.factors(np.arange(n), stream=0)._asdict()
    independent = {k: len(v) for k, v in CLASS_NAMES.items()}
    for one, other in [("shape", "colour"), ("colour", "size"), ("size", "background")]:
        cells = independent[one] * independent[other]
        table = np.bincount(factors[one] * independent[other] + factors[other], minlength=cells)
        chi2 = np.sum((table - n / cells) ** 2) / (n / cells)
        # Mean cells - 1, variance twice that: five standard deviations.
        assert abs(chi2 - (cells - 1)) < 5 * np.sqrt(2 * (cells - 1))


CLASS_NAMES = {
    "shape": drawing.SHAPES,
    "colour": drawing.COLOURS,
    "size": drawing.SIZES,
    "background": drawing.BACKGROUNDS,
}


@pytest.fixture(scope="module")
def drawn():
    """One image of every shape: red, large, tilted, in the middle, on the darkest background."""
    n = len(drawing.SHAPES)
    zero = np.zeros(n, np.int64)
    night = zero + list(drawing.BACKGROUNDS).index("night")
    centre = np.full(n, drawing.EDGE / 2)
    factors = drawing.Factors(
        np.arange(n), zero, zero + 2, night, zero + 4, centre, centre, zero + 18.0, zero + 0.3
    )
    return factors, drawing.draw(factors)


@pytest.mark.parametrize("shape", list(drawing.SHAPES))
def test_a_shape_is_inside_its_radius_and_has_its_area(drawn, shape):
    _, drawings = drawn
    k = list(drawing.SHAPES).index(shape)
    red = drawings[k, ..., 0] / 219  # about the share of a pixel that the shape covers
    at = np.arange(drawing.EDGE) + 0.5 - drawing.EDGE / 2
    outside = np.hypot(*np.meshgrid(at, at)) > 18 + 1
    assert red[outside].max() < 0.3  # the background is 0.17
    # Areas in units of the squared radius, from plane geometry.
    area = {
        "circle": np.pi * 0.9**2,
        "square": 1.4**2,
        "triangle": 3 * np.sqrt(3) / 4,
        "hexagon": 3 * np.sqrt(3) / 2,
        "star": 5 * 0.45 * np.sin(np.pi / 5),
        "heart": 1.45**2 * (0.5 + np.pi / 8),
        "cross": 4 * 0.95 * 0.64 - 0.64**2,
        "ring": np.pi * (0.93**2 - 0.43**2),
    }[shape]
    assert (red > 0.5).sum() == pytest.approx(area * 18**2, rel=0.03)


def test_edges_are_anti_aliased(drawn):
    _, drawings = drawn
    circle = drawings[0, ..., 0]
    assert ((circle > 70) & (circle < 150)).sum() > 20


def test_a_second_opening_reads_what_the_first_prepared(data_dir, capfd):
    open_images(data_dir=data_dir)
    capfd.readouterr()
    written = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    open_images(data_dir=data_dir, split="test")
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == written
    assert capfd.readouterr() == ("", "")


def test_preparing_prints_one_line_and_writes_the_version_of_the_code(tmp_path, capfd):
    for other in ("0.9.0", "2.0.0"):
        (tmp_path / "fashion_mnist_6k" / other).mkdir(parents=True)
        (tmp_path / "fashion_mnist_6k" / other / "dataset_info.json").touch()
    open_images(data_dir=tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Preparing fashion_mnist_6k in {tmp_path} (once)"]


OPEN = """
import sys, warnings
warnings.simplefilter("error")
from genjax.data import open_images
print(open_images(split="test", data_dir=sys.argv[1]).fingerprint)
"""


def test_processes_that_start_at_once_all_find_the_complete_set(data_dir, tmp_path):
    expected = open_images(split="test", data_dir=data_dir).fingerprint
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in processes] == [expected] * 2
    assert [path.name for path in (tmp_path / "fashion_mnist_6k").iterdir()] == ["1.0.0"]


def test_a_kill_while_preparing_leaves_no_damage(data_dir, tmp_path):
    dies = "import os, pathlib; pathlib.Path.rename = lambda *_: os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", dies + OPEN, tmp_path], stderr=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "fashion_mnist_6k"
    (left,) = folder.iterdir()  # the temporary directory, before it is renamed
    assert list(left.rglob("*array_record*"))
    expected = open_images(split="test", data_dir=data_dir).fingerprint
    assert open_images(split="test", data_dir=tmp_path).fingerprint == expected
    os.utime(left, (0, 0))
    (folder / "1.0.0").rename(tmp_path / "away")
    open_images(split="test", data_dir=tmp_path)  # removes old temporary directories
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]


def test_an_unwritable_data_directory_is_reported_in_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(DataError, match="another data directory") as raised:
        open_images(data_dir=blocked)
    assert "\n" not in str(raised.value)
