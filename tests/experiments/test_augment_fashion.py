"""The study of synthetic images: its pieces, statistics and tables, and a tiny one end to end."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from experiments import augment_fashion, augment_pieces, augment_report, checks, vae_fashion
from experiments.augment_fashion import Results, Study
from genjax import data
from genjax.errors import ConfigError

pytestmark = pytest.mark.heavy

CLASSES = ("dark", "bright")


def rows(errors, size=100):
    """{arm: the errors of seeds 0, 1, …} as rows; those of the second class are twice as many."""
    return [
        {
            "size": size,
            "seed": seed,
            "arm": arm,
            "images": size,
            "error": error,
            "class_errors": [0.0, 2 * error],
            "date": "2026-11-27",
            "device": "1 cpu",
        }
        for arm, values in errors.items()
        for seed, error in enumerate(values)
    ]


def test_an_interval_is_students_of_the_differences_of_each_seed():
    real, other = np.array([0.30, 0.25, 0.28, 0.33]), np.array([0.27, 0.24, 0.24, 0.32])
    given = rows({"real": real, "other": other})
    gap = augment_report.paired(given, "other", "real", lambda row: row["error"])
    expected = stats.ttest_rel(other, real).confidence_interval(0.95)
    np.testing.assert_allclose(gap.interval(), expected, rtol=1e-6)
    np.testing.assert_allclose(gap.value, (other - real).mean())
    assert augment_report.paired(given[:5], "other", "real", lambda row: row["error"]) is None


def test_harm_is_shown_as_plainly_as_help():
    study = Study(ratios=(1.0,))
    assert list(study.arms) == [
        "real",
        "real, augmented",
        "real + 1x synthetic",
        "real + 1x synthetic, augmented",
        "1x synthetic alone",
    ]
    real = np.array([0.30, 0.29, 0.31])
    moved = {
        "real": real,
        "real, augmented": real - np.array([0.10, 0.10, 0.11]),
        "real + 1x synthetic": real + np.array([0.05, 0.05, 0.06]),
        "real + 1x synthetic, augmented": real + np.array([0.05, -0.05, 0.01]),
        "1x synthetic alone": real + np.array([0.2, 0.2, 0.21]),
    }
    given = rows(moved)
    verdicts = [
        each.get("against real", {}).get("verdict") for each in augment_report.summary(study, given)
    ]
    assert verdicts == [None, "helps", "harms", "no difference shown", "harms"]
    page = augment_report.page(study, given, CLASSES, 1000)
    line = next(line for line in page.splitlines() if line.startswith("| real + 1x synthetic |"))
    assert "| 35.3 % ± 1.5 | +5.3 [+3.9, +6.8] | **harms** | +15.7 [" in line
    (bright,) = [line for line in page.splitlines() if line.startswith("| bright |")]
    assert (
        "| **+10.7 [+7.8, +13.5]** |" in bright
    )  # the classes that lose are in bold like the others
    (dark,) = [line for line in page.splitlines() if line.startswith("| dark |")]
    assert "**" not in dark


def test_subsets_hold_every_class_equally_and_the_smaller_ones():
    label = np.array([0] * 50 + [1] * 20 + [2] * 3)
    np.random.default_rng(0).shuffle(label)
    some = augment_pieces.stratified(label, 9)
    np.testing.assert_array_equal(np.bincount(label[some]), [3, 3, 3])
    more = augment_pieces.stratified(label, 30)
    np.testing.assert_array_equal(np.bincount(label[more]), [14, 13, 3])  # there are no more of 2
    np.testing.assert_array_equal(more[:9], some)


def test_images_are_filtered_by_class_and_confidence_and_counted():
    chunks = [np.full((4, 1, 1, 1), i, np.uint8) for i in range(3)]
    sampler = SimpleNamespace(drawn=lambda state, key, n, k: iter(chunks))
    images = SimpleNamespace(train=np.zeros((9, 1, 1, 1), np.uint8))
    trained = SimpleNamespace(sampler=sampler, usable_state=None, images=images)
    logits = np.array([[0.0, 3.0], [3.0, 0.0], [0.0, 0.1], [0.0, 3.0]])  # of each chunk

    def judge(rows):
        family = SimpleNamespace(classify=lambda state, x: (None, rows))
        return SimpleNamespace(family=family, usable_state=None)

    kept, counts = augment_pieces.drawn(trained, judge(logits), 1, 3, 0, 0.9)
    assert kept.ravel().tolist() == [0, 0, 1]  # the third is the first of the second chunk
    assert counts == {"drawn": 5, "another class": 1, "unsure": 1, "kept": 3}
    kept, counts = augment_pieces.drawn(trained, judge(logits), 0, 9, 0, 0.9)
    assert counts == {"drawn": 12, "another class": 9, "unsure": 0, "kept": 3}
    kept, counts = augment_pieces.drawn(trained, None, 1, 8, 0, None)
    assert len(kept) == 8
    assert counts == {"drawn": 8, "another class": 0, "unsure": 0, "kept": 8}


def test_a_directory_holds_one_study(tmp_path):
    study = Study(dir=str(tmp_path))
    results = Results(study, "images")
    results.add({"size": 100, "seed": 0, "arm": "real"})
    again = Results(replace(study, sizes=(100, 300), seeds=5, ratios=(2.0,)), "images")
    assert again.find(size=100, seed=0, arm="real")
    assert again.find(size=100, seed=1, arm="real") is None
    with pytest.raises(ConfigError, match="a study of other guidance, steps: give another --dir"):
        Results(replace(study, guidance=3.0, steps=9), "images")
    with pytest.raises(ConfigError, match="a study of other images"):
        Results(study, "others")
    (tmp_path / "augment.json").write_text("{")
    with pytest.raises(ConfigError, match=r"augment.json cannot be read"):
        Results(study, "images")


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["augment_fashion", *map(str, words)])
    augment_fashion.main()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": (100, 7000)}, "--sizes 7000: there are 6,000 images to train on"),
        ({"sizes": (9, 100)}, "--sizes 9 is under one image of each of 10 classes"),
        (
            {"generator": "vae", "guidance": 3.0},
            "--guidance 3.0 has no effect with --generator vae",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_their_flags(settings, message):
    with pytest.raises(ConfigError, match=message):
        checks.augmenting(Study(**settings), data.ImageSpec((28, 28, 1), 10, 6000))


def test_a_refused_command_writes_nothing(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="--seeds must be at least 2, not 1"):
        command(monkeypatch, "--seeds", "1", "--dir", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def tiny(monkeypatch, tmp_path, *words):
    """A study of two seeds on 16 images 8x8 of two classes, with a small network."""
    image = np.random.default_rng(0).integers(0, 128, (40, 8, 8, 1), np.uint8)
    label = np.arange(40) % 2
    image[label == 1] += 128
    folder = tmp_path / "images"
    for i, (pixels, k) in enumerate(zip(image, label, strict=True)):
        (folder / CLASSES[k]).mkdir(parents=True, exist_ok=True)
        augment_pieces.image_sets.Image.fromarray(pixels[..., 0]).save(
            folder / CLASSES[k] / f"{i}.png"
        )
    small = vae_fashion, vae_fashion.Config(classes=True, latent=2, hidden=8), 2
    monkeypatch.setitem(augment_pieces.GENERATORS, "vae", small)
    how = f"--dir {tmp_path / 'study'} --data.folder {folder} --data.size 8 --generator vae"
    rest = "--sizes 16 --seeds 2 --ratios 1 --steps 2 --batch 8"
    command(monkeypatch, *how.split(), *rest.split(), *words)
    return tmp_path / "study"


@pytest.mark.slow
def test_a_tiny_study_resumes_and_its_images_are_read_back(monkeypatch, tmp_path, capsys):
    place = tiny(monkeypatch, tmp_path, "--confidence", "0.01", "--license", "mit")
    values = json.loads((place / "augment.json").read_text())
    arms = [row for row in values["rows"] if "arm" in row]
    assert len(arms) == 10
    assert all(np.isfinite([row["error"], *row["class_errors"]]).all() for row in arms)
    assert {row["images"] for row in arms if row["arm"] == "real"} == {16}
    assert (place / "augment.md").read_text() in capsys.readouterr().out
    first = next(row for row in values["rows"] if row.get("piece") == "synthetic")
    synthetic = place / "size_16_seed_0" / "synthetic"
    read = data.folder(synthetic, size=8, subfolders="classes")
    counts = {name: each["kept"] for name, each in first["counts"].items()}
    assert len(read.split("all")) == sum(counts.values()) > 0
    card = (synthetic / "README.md").read_text()
    assert "# Synthetic images, not observations" in card
    assert f"sha256 {first['weights']}, trained in size_16_seed_0/generator" in card
    assert "license: mit" in card
    assert "a probability of 0.01 or more" in card

    values["rows"] = [row for row in values["rows"] if row.get("arm") != "real, augmented"]
    (place / "augment.json").write_text(json.dumps(values))
    before = {path: path.stat().st_mtime_ns for path in synthetic.rglob("*.png")}
    tiny(monkeypatch, tmp_path, "--confidence", "0.01", "--license", "mit")
    again = json.loads((place / "augment.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in synthetic.rglob("*.png")} == before
    timeless = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in arms
        if row["arm"] == "real, augmented"
    ]
    found = [row for row in again["rows"] if row.get("arm") == "real, augmented"]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in found] == timeless
