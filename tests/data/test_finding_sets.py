"""Data sets by name: the right directory, or an immediate error in one line."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from genjax.data import DataError, open_images
from genjax.data import preparation as sets


def prepare(data_dir, name, make, *, features, splits=("train", "test"), n=20):
    """A small TFDS set, prepared as any other project would."""

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def split_generators(self, manager):
        return {split: ((i, make(i)) for i in range(n)) for split in splits}

    methods = {"name": name, "VERSION": tfds.core.Version("1.0.0"), "__module__": __name__}
    methods |= {"_info": info, "_split_generators": split_generators}
    methods |= {"_generate_examples": lambda self: None}
    # Not registered: its name is found in the directory alone.
    builder = type(name, (tfds.core.GeneratorBasedBuilder,), methods, skip_registration=True)
    config = tfds.download.DownloadConfig(compute_stats="skip")
    builder(data_dir=data_dir, file_format="array_record").download_and_prepare(
        download_config=config
    )
    return data_dir / name / "1.0.0"


def grey(i, height=6, width=5):
    return Image.fromarray(np.full((height, width), i, np.uint8))


IMAGE = {"image": tfds.features.Image(shape=(6, 5, 1))}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Data sets with two splits, with train alone, and with images of many sizes."""
    where = tmp_path_factory.mktemp("prepared")
    label = {"kind": tfds.features.ClassLabel(names=["even", "odd"])}
    number = {"weight": tfds.features.Scalar(np.float32), "note": tfds.features.Text()}
    prepare(
        where,
        "pairs",
        lambda i: {"image": grey(i), "kind": i % 2, "weight": i / 2, "note": "n"},
        features=IMAGE | label | number,
        splits=("train", "validation"),
    )
    prepare(where, "single", lambda i: {"image": grey(i)}, features=IMAGE, splits=("train",))
    prepare(
        where,
        "photos",
        lambda i: {"photo": grey(i, 9 + i, 20) if i % 2 else grey(i, 9, 20).convert("RGB")},
        features={"photo": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")},
    )
    prepare(where, "numbers", lambda i: {"x": i}, features={"x": tfds.features.Scalar(np.int64)})
    return where


def test_image_label_and_factors_are_found_among_the_features(data_dir):
    images = open_images("pairs", data_dir=data_dir)
    assert images.shape == (20, 6, 5, 1)
    assert images.classes == ("even", "odd")
    values = images.source.image[:, 0, 0, 0]
    np.testing.assert_array_equal(images.source.label, values % 2)
    np.testing.assert_array_equal(images.factors["weight"], values / 2)
    assert images.factor_classes["kind"] == ("even", "odd")


def test_slices_and_versions_are_those_of_tfds(data_dir):
    assert len(open_images("pairs:1.0.0", data_dir=data_dir, split="train[:25%]")) == 5
    assert len(open_images("pairs", data_dir=data_dir, split="train+validation")) == 40


def test_a_set_without_a_test_split_holds_images_out(data_dir):
    assert open_images("pairs", split="test", data_dir=data_dir).split == "validation"
    train, test = (open_images("single", split=s, data_dir=data_dir) for s in ("train", "test"))
    values = [images.source.image[:, 0, 0, 0].tolist() for images in (train, test)]
    assert len(test) == 2
    assert sorted(values[0] + values[1]) == list(range(20))


def test_images_of_many_sizes_and_modes_are_converted_to_one(data_dir):
    images = open_images("photos", data_dir=data_dir, size=8)
    assert images.shape == (20, 8, 8, 3)
    with pytest.raises(DataError, match="the size to resize"):
        open_images("photos", data_dir=data_dir)


def test_size_and_channels_change_what_is_read(data_dir):
    images = open_images("pairs", data_dir=data_dir, size=4, channels=3)
    assert images.shape == (20, 4, 4, 3)
    assert sorted(images.source.image[:, 0, 0, 0]) == list(range(20))


def test_a_set_over_the_memory_bound_gives_the_same_batches(data_dir):
    held = open_images("pairs", data_dir=data_dir)
    streamed = open_images("pairs", data_dir=data_dir, memory=1)
    assert held.in_memory
    assert not streamed.in_memory
    assert held.fingerprint == streamed.fingerprint
    stacks = [next(images.batches(0, 3, 8, scan_steps=4)) for images in (held, streamed)]
    for key in ("image", "label"):
        np.testing.assert_array_equal(stacks[0][key], stacks[1][key])


def test_the_only_configuration_is_the_default_and_several_raise(data_dir, tmp_path):
    (tmp_path / "lot").mkdir()
    (tmp_path / "lot" / "small").symlink_to(data_dir / "pairs")
    assert sets.prepared("lot", tmp_path) == tmp_path / "lot" / "small" / "1.0.0"
    (tmp_path / "lot" / "large").symlink_to(data_dir / "single")
    assert sets.prepared("lot/large", tmp_path) == tmp_path / "lot" / "large" / "1.0.0"
    with pytest.raises(DataError, match="lot/large, lot/small"):
        sets.prepared("lot", tmp_path)


def test_the_newest_version_is_the_default(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        (tmp_path / "any" / version).mkdir(parents=True)
        (tmp_path / "any" / version / "dataset_info.json").touch()
    (tmp_path / "any" / "2.0.0.incomplete").mkdir()
    assert sets.prepared("any", tmp_path).name == "1.10.0"
    assert sets.prepared("any:1.2.0", tmp_path).name == "1.2.0"
    assert sets.prepared("any:3.0.0", tmp_path) is None


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar01", "train", "did you mean cifar10"),  # TFDS'
        ("fashion_mnist6k", "train", "did you mean fashion_mnist_6k"),  # of genjax
        ("pear", "train", "did you mean pairs"),  # in the directory
        ("qqqqqq", "train", "try fashion_mnist_6k or shapes64"),
        ("", "train", "names no data set"),
        ("../pairs", "train", "names no data set"),
        ("cifar10", "train", "not prepared"),
        ("pairs:2.0.0", "train", "holds pairs:1.0.0"),
        ("fashion_mnist_6k:7.0.0", "train", "holds fashion_mnist_6k:1.0.0"),
        ("pairs", "trian", "take one of train, validation"),
        ("pairs", "train[", "take one of train, validation"),
        ("pairs", "train[5:5]", "no images in split"),
        ("numbers", "train", "no images, only x"),
    ],
)
def test_unavailable_data_are_reported_in_one_line(data_dir, name, split, message, no_network):
    with pytest.raises(DataError, match=message) as raised:
        open_images(name, split=split, data_dir=data_dir)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"channels": 2}, {"channels": 4}])
def test_invalid_sizes_and_channels_raise(data_dir, wrong):
    with pytest.raises(DataError, match=r"got size 0|1 or 3 channels"):
        open_images("pairs", data_dir=data_dir, **wrong)


def test_the_suggested_command_is_valid_python(tmp_path):
    with pytest.raises(DataError) as raised:
        open_images("cifar10", data_dir=tmp_path)
    program = str(raised.value).partition('python -c "')[2].removesuffix('"')
    compile(program, "<command>", "exec")
    assert "'cifar10'" in program
    assert str(tmp_path) in program


def test_a_download_without_tensorflow_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(sets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install tensorflow-cpu"):
        open_images("cifar10", data_dir=tmp_path, download=True)


def test_a_download_without_network_raises_before_tfds_retries(tmp_path, monkeypatch):
    def unreachable(address, timeout):
        raise OSError("Name or service not known")

    monkeypatch.setattr(sets.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sets.socket, "create_connection", unreachable)
    for key in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
        monkeypatch.delenv(key.upper(), raising=False)
    with pytest.raises(DataError, match=r"cannot reach .*toronto"):
        open_images("cifar10", data_dir=tmp_path, download=True)


@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "info"])
def test_a_damaged_set_is_reported_in_one_line(data_dir, tmp_path, harm):
    folder = prepare(tmp_path, "hurt", lambda i: {"image": grey(i)}, features=IMAGE)
    file = folder / "hurt-train.array_record-00000-of-00001"
    held = file.read_bytes()
    if harm == "cut":
        file.write_bytes(held[: len(held) // 2])
    elif harm == "flipped":
        at = held.index(b"\x89PNG")
        file.write_bytes(held[:at] + b"\x00" + held[at + 1 :])
    elif harm == "missing":
        file.unlink()
    else:
        (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be read .*prepare it again") as raised:
        open_images("hurt", data_dir=tmp_path)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_set_in_a_tensorflow_format_is_reported_in_one_line(data_dir, tmp_path):
    folder = prepare(tmp_path, "old", lambda i: {"image": grey(i)}, features=IMAGE)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="only TensorFlow reads"):
        open_images("old", data_dir=tmp_path)
