"""What folders mean: a table of layouts, each understood as told there or refused with one line."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from genjax.data import DataError, Dataset, DataSettings, open_images
from genjax.data.layout import held_out_tenth, split_named
from genjax.data.summary import describe, lines


def png(value=0, channels=3, size=4):
    pixels = np.full((size, size, channels), value, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def folder(root, counts, suffix=".png"):
    """{"train/cat": 3}: images train/cat/000.png to 002.png; 0 makes an empty folder."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i:03}{suffix}").write_bytes(png(i))
    return root


def understood(path, **settings):
    return describe(Dataset(DataSettings(folder=str(path), size=4, **settings)))


def splits_and_classes(summary):
    return summary["splits"], {k: tuple(v) for k, v in summary["classes"].items()}


TWO = {"cat": (18, 2), "dog": (18, 2)}
# {name: (images by folder, settings, splits, classes: (train, test))}
UNDERSTOOD = {
    "flat": ({"": 60}, {}, {"train": 54, "test": 6}, {}),
    "three images": ({"": 3}, {}, {"train": 2, "test": 1}, {}),
    "classes": ({"cat": 20, "dog": 20}, {}, {"train": 36, "test": 4}, TWO),
    "nested deeper": ({"cat/a": 10, "cat/b": 10, "dog": 20}, {}, {"train": 36, "test": 4}, TWO),
    "a rare class": (
        {"albino": 2, "common": 90},
        {},
        {"train": 83, "test": 9},
        {"albino": (2, 0), "common": (81, 9)},
    ),
    "many small classes": (
        {f"c{i}": 5 for i in range(8)},
        {},
        {"train": 36, "test": 4},
        None,
    ),
    "train and test": (
        {"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 1},
        {},
        {"train": 5, "test": 2},
        {"cat": (3, 1), "dog": (2, 1)},
    ),
    "capitals": (
        {"Train/cat": 3, "Train/dog": 2, "TEST/cat": 1, "TEST/dog": 1},
        {},
        {"train": 5, "test": 2},
        {"cat": (3, 1), "dog": (2, 1)},
    ),
    "three splits, names with spaces": (
        {f"{s}/{c}": 2 for s in ("train", "val", "test") for c in ("red rose", "Tulpe weiß")},
        {},
        {"train": 4, "test": 4, "validation": 4},
        {"Tulpe weiß": (2, 2), "red rose": (2, 2)},
    ),
    "validation in place of test": (
        {"training": 3, "valid": 2},
        {},
        {"train": 3, "test": 2},
        {},
    ),
    "dev": ({"train": 3, "dev": 2}, {}, {"train": 3, "test": 2}, {}),
    "years": ({"train2017": 3, "val2017": 2}, {}, {"train": 3, "test": 2}, {}),
    "sets": ({"training_set": 3, "test set": 2}, {}, {"train": 3, "test": 2}, {}),
    "train alone": ({"train/cat": 20, "train/dog": 20}, {}, {"train": 36, "test": 4}, TWO),
    "other classes in each split": (
        {"train/a": 3, "train/b": 3, "test/b": 2, "test/c": 2},
        {},
        {"train": 6, "test": 4},
        {"a": (3, 0), "b": (3, 2), "c": (0, 2)},
    ),
    "wrapped": (
        {"my set/v1/train": 3, "my set/v1/test": 2},
        {},
        {"train": 3, "test": 2},
        {},
    ),
    "wrapped, beside other things": (
        {"images/train": 3, "images/test": 2, "labels": 0},
        {},
        {"train": 3, "test": 2},
        {},
    ),
    "one folder in each split": (
        {"train/images": 3, "test/images": 2},
        {},
        {"train": 3, "test": 2},
        {},
    ),
    "an image beside the classes": (
        {"": 1, "cat": 10, "dog": 10},
        {},
        {"train": 19, "test": 2},
        {},
    ),
    "the same, classes by flag": (
        {"": 1, "cat": 20, "dog": 20},
        {"subfolders": "classes"},
        {"train": 36, "test": 4},
        TWO,
    ),
    "classes named like splits": (
        {"train": 20, "tram": 20},
        {"subfolders": "classes"},
        {"train": 36, "test": 4},
        {"train": (18, 2), "tram": (18, 2)},
    ),
    "splits beside others, by flag": (
        {"train": 3, "test": 2, "extra": 7, "": 1},
        {"subfolders": "splits"},
        {"train": 3, "test": 2},
        {},
    ),
    "no meaning, by flag": (
        {"train": 10, "cat": 10, "dog/x": 10},
        {"subfolders": "none"},
        {"train": 27, "test": 3},
        {},
    ),
    "one class, by flag": (
        {"cat": 20},
        {"subfolders": "classes"},
        {"train": 18, "test": 2},
        {"cat": (18, 2)},
    ),
    "an empty class": ({"cat": 20, "dog": 20, "bird": 0}, {}, {"train": 36, "test": 4}, TWO),
    "a test split without classes, by flag": (
        {"train/cat": 2, "train/dog": 2, "test": 2},
        {"subfolders": "splits"},
        {"train": 4, "test": 2},
        {},
    ),
}
# {name: (images by folder, settings, the line)}
REFUSED = {
    "nothing": ({}, {}, "holds no image"),
    "one image": ({"": 1}, {}, "one image cannot be split"),
    "one image to train on": ({"train": 1}, {}, "one image cannot be split"),
    "a class or a split": ({"train": 3, "tram": 3}, {}, "train named like a split beside tram"),
    "splits beside another": (
        {"train": 3, "test": 2, "extra": 7},
        {},
        "test, train named like a split beside extra",
    ),
    "an image beside the splits": (
        {"": 1, "train": 3, "test": 2},
        {},
        "000.png beside test, train",
    ),
    "two spellings of one split": ({"train": 3, "Train": 3, "test": 2}, {}, "same split"),
    "val and valid": ({"train": 3, "val": 3, "valid": 2}, {}, "same split"),
    "no train": ({"val": 3, "test": 3}, {}, "but no train"),
    "no train, by flag": (
        {"cat": 3, "test": 3},
        {"subfolders": "splits"},
        "no folder with images is called train",
    ),
    "an empty test split": ({"train": 3, "test": 0}, {}, "test holds no image: fill or delete"),
    "an empty train split": ({"train": 0, "test": 3}, {}, "but no train"),
    "CycleGAN's folders": (
        {"trainA": 3, "trainB": 3, "testA": 3, "testB": 3},
        {},
        "may be a split or a class",
    ),
    "splits inside classes": (
        {f"{c}/{s}": 2 for c in ("cat", "dog") for s in ("train", "test")},
        {},
        "cat, dog hold the splits test, train",
    ),
    "a test split without classes": (
        {"train/cat": 2, "train/dog": 2, "test": 2},
        {},
        "train has class folders, test has images beside or without any",
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_layout_is_understood(tmp_path, name):
    counts, settings, splits, classes = UNDERSTOOD[name]
    summary = understood(folder(tmp_path, counts), **settings)
    found = splits_and_classes(summary)
    assert found[0] == splits
    if classes is None:  # as many as fit, of no class two
        assert {test for _, test in found[1].values()} == {0, 1}
    else:
        assert found[1] == classes
    assert all(line.isprintable() for line in (*lines(summary), *summary["notes"]))


@pytest.mark.parametrize("name", REFUSED)
def test_a_doubtful_layout_is_refused_in_one_line(tmp_path, name):
    counts, settings, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as raised:
        understood(folder(tmp_path, counts), **settings)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_what_is_refused_says_how_to_say_what_is_meant(tmp_path):
    folder(tmp_path, {"train": 10, "tram": 10})
    with pytest.raises(DataError) as raised:
        understood(tmp_path)
    for flag in ("splits", "classes", "none"):
        assert flag in str(raised.value).partition("--data.subfolders")[2]
        understood(tmp_path, subfolders=flag)


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_an_archive_means_what_its_folder_means(tmp_path, name):
    counts, settings, *_ = UNDERSTOOD[name]
    root = folder(tmp_path / "set", counts)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in root.rglob("*"):
            archive.write(path, path.relative_to(root))
        archive.writestr("__MACOSX/._000.png", b"no image")
    packed, loose = (understood(tmp_path / name, **settings) for name in ("set.zip", "set"))
    assert {**packed, "name": ""} == {**loose, "name": ""}


def test_the_words_for_splits():
    for name in ("train", "Training", "TRAIN", "train_data", "trn", "train-images", " train "):
        assert split_named(name) == "train"
    for name in ("val", "valid", "Validation", "dev", "val2017", "dev-set"):
        assert split_named(name) == "validation"
    for name in ("test", "Testing", "eval", "evaluation", "test_images", "tst"):
        assert split_named(name) == "test"
    for name in ("trains", "tests1", "valley", "trainA", "contest", "developer", ""):
        assert split_named(name) is None


def test_held_out_images_stay_when_others_are_added():
    names = [f"{i}.png" for i in range(100)]
    groups = ["a" if i < 30 else "b" for i in range(100)]
    before = {names[i] for i in held_out_tenth(names, groups)}
    assert [sum(int(n[:-4]) < 30 for n in before), len(before)] == [3, 10]
    more, labels = [*names, "100.png"], [*groups, "b"]
    assert len(before - {more[i] for i in held_out_tenth(more, labels)}) <= 1


def test_no_class_is_held_out_completely():
    names = [f"{i}.png" for i in range(47)]
    groups = [str(i % 20) for i in range(47)]
    held = {*held_out_tenth(names, groups).tolist()}
    assert {groups[i] for i in range(47) if i not in held} == {*groups}


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    folder(tmp_path, {"train/Tu\u0308r": 2, "train/Tor": 2, "test/T\u00fcr": 2, "test/Tor": 2})
    _, classes = splits_and_classes(understood(tmp_path))
    assert classes == {"Tor": (2, 2), "T\u00fcr": (2, 2)}


def test_what_is_not_used_is_counted_by_reason(tmp_path):
    folder(tmp_path, {"": 10})
    for i in range(30):
        (tmp_path / f"{i}.heic").write_bytes(bytes(9))
    (tmp_path / "README").touch()
    (tmp_path / "a.png").touch()
    summary = understood(tmp_path, bad="skip")
    assert summary["skipped"] == {
        ".heic, no known image format": 30,
        "no suffix, no known image format": 1,
        "broken, or no image": 1,
    }
    assert "only 10 of 42 files are used" in summary["notes"]
    assert any("30" in line and ".heic" in line for line in lines(summary))


def test_a_folder_of_other_files_names_them(tmp_path):
    (tmp_path / "a.heic").touch()
    with pytest.raises(DataError, match=r"holds no image \(\.bmp.*but 1 \.heic"):
        understood(tmp_path)


def test_splits_open_by_any_of_their_names(tmp_path):
    folder(tmp_path, {"Train": 4, "val": 3, "testing": 2})
    sizes = {"train": 4, "training": 4, "test": 2, "val": 3, "validation": 3, "all": 9}
    for split, size in sizes.items():
        assert len(open_images(folder=tmp_path, split=split, size=4)) == size
    with pytest.raises(DataError, match=r"no split .trian.: take train, validation, test or"):
        open_images(folder=tmp_path, split="trian", size=4)


def test_links_out_of_the_folder_are_followed_on_request(tmp_path):
    outside = folder(tmp_path / "outside", {"cat": 10, "dog": 10})
    root = folder(tmp_path / "set", {"bird": 10})
    for name in ("cat", "dog"):
        (root / name).symlink_to(outside / name)
    (root / "bird" / "again.png").symlink_to(outside / "cat" / "000.png")
    with pytest.raises(DataError, match=r"--data\.follow-links"):
        understood(root)
    (root / "cat" / "loop").symlink_to(root)  # leads back to where it came from
    (root / "bird" / "cross").symlink_to(root / "bird")
    _, classes = splits_and_classes(understood(root, follow_links=True))
    assert {name: sum(counts) for name, counts in classes.items()} == {
        "bird": 11,
        "cat": 10,
        "dog": 10,
    }


def test_rules_of_earlier_runs_read_a_folder_as_before(tmp_path):
    folder(tmp_path, {"train/a": 3, "train/b": 3, "test/b": 2, "test/c": 2})
    assert open_images(folder=tmp_path, split="test", size=4, rules=1).classes == ("b", "c")
    assert open_images(folder=tmp_path, split="test", size=4).classes == ("a", "b", "c")
    folder(tmp_path, {"val/a": 1})
    summary = understood(tmp_path, rules=1)
    assert sorted(summary["classes"]) == ["test", "train", "val"]
    assert "understood by the rules of earlier versions (--data.rules 1)" in summary["notes"]


def test_rules_of_earlier_runs_hold_out_the_same_images(tmp_path):
    # The digests were made by an earlier version: these must not change.
    for i in range(40):
        path = tmp_path / ("cat" if i < 9 else "dog") / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(i * 6, channels=1))
    train, test = (open_images(folder=tmp_path, split=s, rules=1) for s in ("train", "test"))
    assert train.shape == (36, 64, 64, 3)
    assert test.source.image[:, 0, 0, 0].tolist() == OLD_HELD_OUT
    assert (train.fingerprint, test.fingerprint) == OLD_FINGERPRINTS


OLD_HELD_OUT = [114, 186, 222, 234]
OLD_FINGERPRINTS = ("276ebde40b77416925465ddcb5146529", "b294e9fb2b7b8a5d83d6ee0917a5db10")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    (folder(tmp_path, {"cat": 2, "dog": 2}) / "cat").chmod(0)
    with pytest.raises(DataError, match="cannot be listed"):
        understood(tmp_path)
