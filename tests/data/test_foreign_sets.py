"""An untrusted prepared data set imports no code and reads no file outside its folder."""

import json
import shutil
import sys

import numpy as np
import pytest

from genjax.data import DataError, open_images


@pytest.fixture
def foreign(own_sets, tmp_path):
    """A copy of a set under another name, changed by a function of its two descriptions."""
    open_images("fashion_mnist_6k", data_dir=own_sets)

    def foreign(change):
        folder = tmp_path / "sets" / "foreign" / "1.0.0"
        shutil.copytree(own_sets / "fashion_mnist_6k" / "1.0.0", folder)
        for path in folder.glob("fashion_mnist_6k-*"):
            path.rename(folder / path.name.replace("fashion_mnist_6k", "foreign"))
        info, features = (
            json.loads((folder / name).read_text())
            for name in ("dataset_info.json", "features.json")
        )
        info["name"] = "foreign"
        change(info, features["featuresDict"]["features"])
        (folder / "dataset_info.json").write_text(json.dumps(info))
        (folder / "features.json").write_text(json.dumps(features))
        return open_images("foreign", data_dir=tmp_path / "sets")

    return foreign


def code(info, features):
    features["label"]["pythonClassName"] = "evil_module_of_a_set.Feature"


def old_code(info, features):
    features["label"] = {"type": "evil_module_of_a_set.Feature", "content": ""}


def records_outside(info, features):
    for split in info["splits"]:
        split["filepathTemplate"] = "../../../other/{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def other_shape(info, features):
    features["image"]["image"]["shape"]["dimensions"] = ["30", "28", "1"]


BAD = {
    code: "names the code",
    old_code: "names the code",
    records_outside: "outside",
    other_shape: r"\(28, 28\) pixels where features.json says \(28, 30\)",
}


@pytest.mark.parametrize("change", BAD, ids=lambda change: change.__name__)
def test_a_set_with_a_false_description_is_rejected(foreign, tmp_path, monkeypatch, change):
    (tmp_path / "evil_module_of_a_set.py").write_text("ran = True")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=BAD[change]) as raised:
        foreign(change)
    assert "\n" not in str(raised.value)
    assert "evil_module_of_a_set" not in sys.modules


def test_a_large_set_with_a_false_description_raises_at_its_batch(foreign):
    def larger(info, features):
        features["image"]["image"]["shape"]["dimensions"] = ["100000", "100000", "3"]

    images = foreign(larger)  # 10¹⁴ bytes if they were allocated
    with pytest.raises(DataError, match="pixels where"):
        images.source[np.arange(1)]


@pytest.mark.parametrize("text", ["[" * 100_000, "3", "", '{"a":' * 50_000])
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_an_invalid_description_is_reported_in_one_line(own_sets, tmp_path, text, file):
    open_images("fashion_mnist_6k", data_dir=own_sets)
    folder = tmp_path / "fashion_mnist_6k" / "1.0.0"
    shutil.copytree(own_sets / "fashion_mnist_6k" / "1.0.0", folder)
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=f"{file}.*prepare it again") as raised:
        open_images("fashion_mnist_6k", data_dir=tmp_path)
    assert "\n" not in str(raised.value)
