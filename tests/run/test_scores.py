"""Scores of samples: their floor and reference, what is refused, ranked checkpoints, files."""

import json
import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from PIL import Image

from genjax import data, run
from genjax.cli import score as score_cli
from genjax.data.errors import DataError
from genjax.data.opening import find_at_own_size
from genjax.errors import ConfigError
from genjax.evaluate.features.network import FeatureNetwork, pixels
from genjax.evaluate.kernel_distance import kernel_distance
from genjax.evaluate.neighbours import neighbour_scores
from genjax.evaluate.vendi import vendi
from genjax.files import read_rows
from genjax.run import image_scores, score_rows, scoring
from genjax.run.image_scores import all_scores, score_images, score_run
from genjax.run.scoring import RealImages, Scorer, batches, real_images
from genjax.train.checkpoint import Checkpoints
from genjax.train.game import Aux, Player

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 200, (210, 2, 2, 1), np.uint8)
IMAGES = data.from_arrays(PIXELS[:120], test=PIXELS[120:])
SAMPLES = RNG.integers(50, 256, (60, 2, 2, 1), np.uint8)
REAL = RealImages(IMAGES.test, IMAGES.train, seed=3)
LAYER = nn.Dense(4)


def family(**more):
    def init(key, before):
        return {"net": LAYER.init(key, jnp.zeros((1, 2)))}, {}

    def loss(params, state, keys, batch):
        x = batch["image"].reshape(-1, 4) / 255
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        return jnp.mean((LAYER.apply(params["net"], noise) - x) ** 2), Aux()

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(LAYER.apply(state.params["net"], z)).reshape(-1, 2, 2, 1)

    def validate(state, keys, batch):
        return {"fit": jnp.zeros(len(keys)) - state.step}

    game = {"net": Player(loss, optax.sgd(1.0))}
    return run.Family(game, init, generate, latent=(2,), validate=validate, **more)


FAMILY = family()


def trained(directory, steps=4, made=FAMILY, **more):
    how = {"batch": 8, "every": 2, "samples": 4, "devices": 2, "scan_steps": 1, **more}
    return run.train(made, IMAGES, run.Settings(steps, dir=str(directory), **how), name="x")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run whose checkpoints are ranked by the kernel distance of 50 samples."""
    directory = tmp_path_factory.mktemp("scored") / "run"
    return trained(directory, score="kd_pixels", score_images=50, keep="all")


def features(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255


def ordered(images, n):
    return features(np.concatenate([*batches(images, n, 3)]))


def test_scores_are_of_samples_against_the_split_and_floors_of_the_other():
    names = ("kd_pixels", "coverage_pixels", "vendi_pixels", "density_pixels")
    found = all_scores(names, iter([SAMPLES[:40], SAMPLES[40:]]), 60, REAL)
    x, y, real = features(SAMPLES), ordered(IMAGES.test, 90), ordered(IMAGES.train, 60)
    assert [score.name for score in found] == [
        "kernel distance, pixels",
        "coverage (k = 5), pixels",
        "vendi score, pixels",
        "density (k = 5), pixels",
    ]
    expected = (
        (kernel_distance(x, y), kernel_distance(real, y)),
        (neighbour_scores(x, y)["coverage"], neighbour_scores(real, y)["coverage"]),
        (vendi(x), vendi(real)),
    )
    for score, (ours, floor) in zip(found, expected, strict=False):
        assert score.value == pytest.approx(ours.value, rel=1e-5)
        assert (score.low, score.high) == pytest.approx(ours.interval(), rel=1e-4)
        assert score.floor["value"] == pytest.approx(floor.value, rel=1e-5)
        ends = score.floor["low"], score.floor["high"]
        assert ends == pytest.approx(floor.interval(), rel=1e-4)  # sums of float32, in other blocks
        assert (score.n, score.floor["n"], score.seed) == (60, 60, 3)
        assert score.reference == "arrays test"
        assert (score.network, score.sha256, score.resizing) == ("pixels", None, "none")
        assert score.fingerprint == IMAGES.test.fingerprint
    assert [score.n_reference for score in found] == [90, 90, 0, 90]
    assert [score.better for score in found] == ["lower", "higher", "higher", "higher"]


def test_without_enough_further_images_there_is_no_floor():
    (score,) = all_scores(["kd_pixels"], [SAMPLES], 60, RealImages(IMAGES.test, None))
    assert score.floor is None
    few = replace(REAL, others=data.images_from_arrays(SAMPLES[:59]))
    (score,) = all_scores(["kd_pixels"], [SAMPLES], 60, few)
    assert score.floor is None
    assert "no floor: arrays test has no 60 further images" in str(score)


def test_the_floor_never_overlaps_the_reference():
    opened = {"train": "the rest", "test": IMAGES.test, "validation": IMAGES.test}
    for split, other in (("test", "the rest"), ("validation", "the rest"), ("train", IMAGES.test)):
        assert real_images(opened.get, IMAGES.settings, split).others is other
    for split in ("all", "test[:50%]", "train[10:]"):
        assert real_images(opened.get, IMAGES.settings, split).others is None
    size = replace(IMAGES.settings, size=32, fit="pad")
    assert real_images(opened.get, size, "test").resized == "lanczos, pad, to 32x32"


def test_logits_and_inceptions_own_names(monkeypatch):
    def logits(images):
        return jnp.stack([images.mean((1, 2, 3)) / 30.0, jnp.ones(len(images))], 1)

    network = FeatureNetwork("inception", "ab" * 32, "clean", 4, pixels((2, 2, 1)).features, logits)
    monkeypatch.setattr(image_scores, "open_network", lambda *of: network)
    names = ("is_inception", "fd_inception", "kd_inception", "swd_inception")
    found = all_scores(names, iter([SAMPLES]), 60, replace(REAL, resized="lanczos"))
    assert [score.name for score in found] == [
        "Inception score",
        "FID",
        "KID",
        "sliced wasserstein distance, inception",
    ]
    assert 1 < found[0].value < 2
    assert (found[0].sha256, found[0].resizing) == ("ab" * 32, "lanczos; clean")


@pytest.mark.parametrize(
    ("names", "samples", "said"),
    [
        (["kd_pixels"], SAMPLES[:39], "needs 40 images on both sides; there are 39 samples"),
        (["fd_limit_pixels"], SAMPLES[:9], "needs 10 images on both sides, twice its 4 features"),
        (["kd_pixels"], np.zeros((60, 2, 3, 1), np.uint8), "2x3x1, the real images 2x2x1: .*size"),
        (["kd_pixels"], np.zeros((60, 2, 2, 3), np.uint8), "2x2x3, the real .*--data.channels"),
        (["kd_inception"], SAMPLES, "--weights FILE"),
        (["kd_classifier"], SAMPLES, "--weights FOLDER"),
        (["kd_alexnet", "is_classifier"], SAMPLES, "--weights FOLDER"),
        (["vendi_pixels"], 0 * SAMPLES, "vendi score, pixels: the features of an example are all"),
    ],
)
def test_what_cannot_be_scored_is_one_line(names, samples, said):
    with pytest.raises(ConfigError, match=said) as caught:
        all_scores(names, [samples], len(samples), REAL)
    assert "\n" not in str(caught.value)


def test_a_network_that_takes_other_images_is_refused(monkeypatch):
    def other(images):
        if images.shape[1:] != (8, 8, 1):
            raise ValueError("this classifier takes images (8, 8, 1)")
        return images.reshape(len(images), -1)

    network = FeatureNetwork("classifier of x", "ab", "none", 64, other, other)
    monkeypatch.setattr(scoring, "load_classifier", lambda weights: network)
    with pytest.raises(ConfigError, match=r"classifier of x: this classifier takes images \(8"):
        all_scores(["kd_classifier"], [SAMPLES], 60, REAL, "folder")


def test_refusals_come_before_any_sample_is_drawn():
    def never():
        raise AssertionError
        yield

    with pytest.raises(ConfigError, match="needs 40"):
        all_scores(["kd_pixels"], never(), 30, REAL)


# Class by class

LABELS = RNG.integers(0, 2, 210)
LABELLED = data.from_arrays(
    PIXELS[:120], LABELS[:120], test=(PIXELS[120:], LABELS[120:]), names=("dark", "bright")
)


def test_scores_of_a_class_are_of_its_samples_against_its_real_images():
    real = RealImages(LABELLED.test, LABELLED.train, seed=3)
    drawn_as = np.arange(80) % 2
    samples = RNG.integers(50, 256, (80, 2, 2, 1), np.uint8)
    found = all_scores(["kd_pixels", "swd_pixels"], [samples], 80, real, labels=drawn_as)
    assert [score.name.split(", ")[2:] for score in found] == [[], ["dark"], ["bright"]] * 2
    for number in (0, 1):
        score = found[1 + number]
        theirs = PIXELS[120:][LABELS[120:] == number]
        x, y = features(samples[drawn_as == number]), features(theirs)
        assert score.value == pytest.approx(kernel_distance(x, y).value, rel=1e-4)
        assert (score.n, score.n_reference, score.floor["n"]) == (40, len(y), 40)
        others = features(PIXELS[:120][LABELS[:120] == number])
        # 40 of those, by the seed: within what all of them allow.
        assert abs(score.floor["value"] - kernel_distance(others, y).value) < 0.05


def test_the_references_features_are_computed_once_for_all_classes(monkeypatch):
    asked, computed = [], Scorer._computed

    def counted(self, images, n, logits, what):
        asked.append((what, n))
        return computed(self, images, n, logits, what)

    monkeypatch.setattr(Scorer, "_computed", counted)
    real = RealImages(LABELLED.test, LABELLED.train)
    all_scores(["swd_pixels", "kd_pixels"], [PIXELS[:90]], 90, real, labels=np.arange(90) % 2)
    # Of the floors each has as many images as there are samples.
    assert sorted(asked) == [
        *(("real images", n) for n in (45, 45, 90, 90)),
        ("samples", 90),
    ]


def test_a_run_that_is_told_classes_is_scored_class_by_class(tmp_path):
    how = {"batch": 8, "samples": 4, "devices": 1, "dir": str(tmp_path / "run")}
    settings = run.Settings(2, **how)
    result = run.train(family(classes=2), LABELLED, settings, name="x")
    whole, dark, bright = score_run(result, ["swd_pixels"], 90, per_class=True)
    assert [score.n for score in (whole, dark, bright)] == [90, 45, 45]
    # Classes come in turn: the first, third, … samples are dark ones.
    drawn = result.sample(90)[::2]
    theirs = PIXELS[120:][LABELS[120:] == 0]
    again = score_images_of(drawn, theirs)
    assert dark.value == pytest.approx(again, rel=1e-4)


def score_images_of(samples, reference):
    real = RealImages(data.images_from_arrays(reference), None, seed=0)
    return all_scores(["swd_pixels"], [samples], len(samples), real)[0].value


def test_scores_of_classes_need_labels_of_the_same_classes(tmp_path, scored):
    real = RealImages(LABELLED.test, LABELLED.train)
    with pytest.raises(ConfigError, match=r"--per-class, dark: .* needs 40 images on both sides"):
        all_scores(["kd_pixels"], [SAMPLES], 60, real, labels=np.arange(60) % 2)
    with pytest.raises(ConfigError, match="--per-class: this run is not told classes"):
        score_run(scored, ["kd_pixels"], per_class=True)
    for name, labels in (("ours", LABELS), ("theirs", 1 - LABELS), ("plain", None)):
        given = {} if labels is None else {"labels": labels}
        np.savez(tmp_path / f"{name}.npz", images=PIXELS, **given)
    ours, theirs, plain = (str(tmp_path / f"{name}.npz") for name in ("ours", "theirs", "plain"))
    found = score_images(ours, theirs, ["swd_pixels"], 160, "all", per_class=True)
    assert sum(score.n for score in found[1:]) == 160
    # The classes are swapped, so that each is compared with the other.
    assert found[1].n_reference == (LABELS == 1).sum()
    with pytest.raises(ConfigError, match=r"needs the same classes on both sides: .* has none"):
        score_images(plain, ours, ["swd_pixels"], 160, "all", per_class=True)


# During training


def test_checkpoints_are_ranked_by_the_score(scored, caplog):
    rows = {row["step"]: row for row in scored.metrics}
    found = {step: rows[step]["test/kd_pixels"] for step in (2, 4)}
    written = score_rows.read(scored.directory / "scores.jsonl")
    assert {step: score.value for (step, _), score in written.items()} == found
    assert all(score.n == 50 and score.floor["n"] == 50 for score in written.values())
    checkpoints = Checkpoints(scored.directory / "checkpoints", read_only=True)
    assert checkpoints.best() == min(found, key=found.get)
    checkpoints.close()
    # The family's own score falls with the step and would always name the last.
    assert rows[2]["test/fit"] > rows[4]["test/fit"]
    # By hand: the same noise, the held-out images, the features of samples.
    sampler, key = scored.sampler, jax.random.fold_in(jax.random.key(0), 2)
    drawn = np.concatenate([*sampler.drawn(scored.state, key, 50)])
    held_out = np.concatenate([*batches(IMAGES.test, 90, 0)])
    expected = kernel_distance(features(drawn), features(held_out))
    assert found[4] == pytest.approx(expected.value, rel=1e-5)


def test_a_score_changes_no_bit_of_training_nor_does_a_stop(scored, tmp_path):
    plain = trained(tmp_path / "plain", keep="all")
    jax.tree.map(np.testing.assert_array_equal, plain.state, scored.state)
    assert not (tmp_path / "plain" / "scores.jsonl").exists()
    parts = {"score": "kd_pixels", "score_images": 50, "keep": "all"}
    trained(tmp_path / "parts", 2, **parts)
    trained(tmp_path / "parts", 4, **parts)
    places = tmp_path / "parts", scored.directory
    ours, theirs = (score_rows.read(place / "scores.jsonl") for place in places)
    assert ours == theirs


def test_the_score_of_a_run_stays(scored):
    with pytest.raises(ConfigError, match="ranked by one score"):
        trained(scored.directory, 6, score="fd_pixels", score_images=50, allow_changes=True)
    with pytest.raises(ConfigError, match=r"--run\.score-images"):
        trained(scored.directory, 6, score="kd_pixels", score_images=60)


def test_scores_that_cannot_be_are_refused_before_a_directory_is_made(tmp_path):
    blind = replace(FAMILY, generate=None, latent=None)
    with pytest.raises(ConfigError, match="makes no images"):
        trained(tmp_path / "a", made=blind, score="kd_pixels")
    with pytest.raises(ConfigError, match="mixture that is fitted after training"):
        trained(tmp_path / "a", made=replace(FAMILY, mixture=True), score="kd_pixels")
    few = data.from_arrays(SAMPLES, test=SAMPLES[:30])
    settings = run.Settings(1, 8, dir=str(tmp_path / "b"), score="kd_pixels")
    with pytest.raises(ConfigError, match=r"500 samples \(--run.score-images\) and 30 real"):
        run.train(FAMILY, few, settings)
    with pytest.raises(ConfigError, match="at least 40"):
        run.Settings(1, 8, score_images=39)
    assert not [*tmp_path.iterdir()]


def test_a_stage_before_is_ranked_by_its_own_score(tmp_path):
    def init(key, before):
        return {"net": before.params["net"]}, {}

    first = replace(FAMILY, name="first", steps=2)
    trained(
        tmp_path / "run",
        2,
        replace(FAMILY, init=init, before=first),
        score="kd_pixels",
        score_images=40,
    )
    assert "test/kd_pixels" not in str(read_rows(tmp_path / "run" / "first" / "metrics.jsonl"))
    assert len(score_rows.read(tmp_path / "run" / "scores.jsonl")) == 1


# Afterwards


def test_scores_of_a_run(scored):
    (score,) = score_run(scored, ["swd_pixels"], 45, "train", 2)
    assert (score.n, score.n_reference, score.reference) == (45, 120, "arrays train")
    again = score_run(scored, ["swd_pixels"], 45, "train", 2)
    assert again == [score]
    assert score_run(scored, ["kd_pixels"])[0].n == 120  # as many as further real images
    assert score_run(scored, ["kd_pixels"], 0, "train")[0].n == 90


def png_folder(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{i:03}.png")
    return str(folder)


@pytest.fixture
def real_file(tmp_path):
    path = tmp_path / "real.npz"
    np.savez(path, train_images=PIXELS[:120], test_images=PIXELS[120:])
    return str(path)


def test_anyones_images_from_a_folder_or_a_file(tmp_path, real_file, caplog):
    np.savez(tmp_path / "ours.npz", images=SAMPLES)
    folder = png_folder(tmp_path / "ours", SAMPLES)
    found = [
        score_images(images, real_file, ["kd_pixels"], to=str(tmp_path / "all.jsonl"))[0]
        for images in (str(tmp_path / "ours.npz"), folder)
    ]
    assert found[0].value == pytest.approx(found[1].value, abs=1e-6)
    assert (found[0].n, found[0].floor["n"], found[0].n_reference) == (60, 60, 90)
    assert found[0].reference == "real.npz test"
    assert [row["step"] for row in read_rows(tmp_path / "all.jsonl")] == [0, 0]
    # A folder as the reference keeps its images' size: nothing is cut to 64x64.
    reals = png_folder(tmp_path / "reals", PIXELS[120:])
    (score,) = score_images(folder, reals, ["kd_pixels"], 45, "train")
    assert (score.n, score.n_reference, score.floor, score.resizing) == (45, 81, None, "none")
    with caplog.at_level(logging.INFO, "genjax"):
        score_images(real_file, folder, ["kd_pixels"], split="all", n=50)
    assert "50 of 210 images are scored, chosen by the seed" in caplog.text


def test_images_that_cannot_be_scored(tmp_path, real_file):
    folder = png_folder(tmp_path / "ours", [*SAMPLES[:3], np.zeros((4, 5, 1), np.uint8)])
    with pytest.raises(DataError, match=r"2 sizes \(2x2, 4x5\).*--data.size"):
        score_images(folder, real_file, ["kd_pixels"])
    one_size = replace(IMAGES.settings, name="fashion_mnist_6k", folder=folder, size=2)
    assert find_at_own_size(one_size).open("all", 1000).shape == (4, 2, 2, 1)
    with pytest.raises(DataError, match=r"there is no file missing\.npz"):
        score_images(real_file, "missing.npz", ["kd_pixels"])
    with pytest.raises(ConfigError, match=r"--n 500: .* holds 210 images"):
        score_images(real_file, real_file, ["kd_pixels"], 500)
    np.savez(tmp_path / "nan.npz", images=np.full((50, 2, 2, 1), np.nan, np.float32))
    with pytest.raises(DataError, match="hold NaN"):
        score_images(str(tmp_path / "nan.npz"), real_file, ["kd_pixels"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="give another --to"):
        score_images(real_file, real_file, ["kd_pixels"], to=str(tmp_path / "file" / "x"))


# Files


def test_the_last_row_of_a_step_and_name_counts(tmp_path, scored):
    (first,) = score_run(scored, ["kd_pixels"], 40)
    path = tmp_path / "scores.jsonl"
    second = replace(first, value=7.0)
    score_rows.append(path, 3, [first])
    score_rows.append(path, 3, [second])
    score_rows.append(path, 5, [first])
    with path.open("a") as file:
        file.write('{"step": 9, "name": "kernel distance, pixels"}\nrubbish\n')
    assert score_rows.read(path) == {(3, first.name): second, (5, first.name): first}
    assert score_rows.newest(str(tmp_path)) == {first.name: first}
    with pytest.raises(ConfigError, match="holds no score: make some by"):
        score_rows.newest(str(tmp_path / "none"))


def test_evaluation_json_keeps_what_is_of_the_same_step(tmp_path, scored):
    a, b = score_run(scored, ["kd_pixels", "swd_pixels"], 40)
    path, of = tmp_path / "evaluation.json", {"experiment": "x", "step": 4}
    path.write_text(json.dumps({**of, "scores": {"bits": 1}, "distances": "hostile"}))
    assert score_rows.save(tmp_path, of, [a, b]) == {a.name: a.value, b.name: b.value}
    score_rows.save(tmp_path, of, [replace(a, value=9.0)])
    values = json.loads(path.read_text())
    assert values["scores"] == {"bits": 1}
    assert {row["name"]: row["value"] for row in values["distances"]} == {
        a.name: 9.0,
        b.name: b.value,
    }
    score_rows.save(tmp_path, {**of, "step": 6}, [b])
    values = json.loads(path.read_text())
    assert "scores" not in values
    assert len(values["distances"]) == 1
    assert len(read_rows(tmp_path / "scores.jsonl")) == 4


def command(*words):
    with pytest.raises(SystemExit) as stop:
        score_cli.main(words[0], [*words[1:]])
    return stop.value.code


def test_commands_print_and_compare(tmp_path, real_file, capsys):
    for name, shift in (("a", 0), ("b", 80)):
        np.save(tmp_path / f"{name}.npy", np.minimum(SAMPLES, 255 - shift))
        words = [str(tmp_path / f"{name}.npy"), "--against", real_file, "--scores", "kd_pixels"]
        score_cli.main("score", [*words, "--to", str(tmp_path / f"{name}.jsonl")])
        assert "kernel distance, pixels" in capsys.readouterr().out
    score_cli.main("compare", [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    line = capsys.readouterr().out
    assert "kernel distance, pixels: the second is better" in line
    score_cli.main("score", [*words, "--n", "50", "--to", str(tmp_path / "b.jsonl")])
    capsys.readouterr()
    score_cli.main("compare", [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    assert "cannot be ranked, they differ in n of samples (60 and 50)" in capsys.readouterr().out
    assert command("compare", str(tmp_path / "a.jsonl"), str(tmp_path / "none")) == 2
    assert command("score", *words[:3], "--scores", "kd_pixel") == 2
    assert "--scores takes one of 63 names, such as kd_pixels" in capsys.readouterr().err
    assert command("score", words[0]) == 2
    assert "--against is required" in capsys.readouterr().err
