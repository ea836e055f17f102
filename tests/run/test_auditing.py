"""Audits of a run, and the alarm of a collapse during training."""

import dataclasses
import json
import logging
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import dcgan_fashion
from genjax import data
from genjax.cli import score
from genjax.cli.main import main
from genjax.data import Dataset, drawing, images_from_arrays
from genjax.data.fashion_mnist_6k import ARCHIVE as FASHION
from genjax.errors import ConfigError
from genjax.evaluate.features import network
from genjax.files import read_rows
from genjax.run import Family, RestoredRun, Settings, audit_reference, audited, auditing, findings
from genjax.run.collapse_alarm import CollapseAlarm, balanced
from genjax.run.periodic_eval import PeriodicEval
from genjax.train.game import initial_state
from genjax.train.layout import DataParallel
from genjax.train.metrics import MetricsWriter, is_evaluation

EARLIER = Path(__file__).parent / "fixtures" / "earlier_run.zip"


@pytest.fixture(scope="module")
def fashion():
    with np.load(FASHION) as archive:
        return {name: archive[name] for name in archive.files}


def images(fashion, split, n, classes=tuple("0123456789")):
    label = fashion[f"{split}_labels"][:n] if classes else None
    image = fashion[f"{split}_images"][:n, ..., None]
    return images_from_arrays(image, label, name="fashion", split=split, classes=classes)


def family(source, **more):
    """Draws the images of an array in their order."""
    pixels = jnp.asarray(source, jnp.float32) / 255

    def draw(key, n):
        return jnp.arange(n) % len(pixels)

    return Family({}, None, lambda state, keys, z, label: pixels[z], draw=draw, **more)


def audit_of(family, train, test, folder, n=200):
    dataset = Dataset(data.from_arrays(np.zeros((2, 8, 8, 1), np.uint8)).settings)
    dataset.splits.update(train=train, test=test)
    run = RestoredRun(folder, family, {"experiment": "any"}, initial_state({}, {}, {}), dataset)
    pixels = network.pixels(train.shape[1:])
    audit = audited.of_run(run, pixels, folder, n=n)
    return {each.name: each for each in audit.findings()}


@pytest.mark.heavy
def test_an_audit_finds_copies_and_few_classes_and_writes_its_sheets(fashion, tmp_path):
    train, test = images(fashion, "train", 600), images(fashion, "test", 300)
    some = train.source.image[np.isin(train.source.label, [3, 8])]
    found = audit_of(family(some), train, test, tmp_path)
    assert found.keys() == {"memorization", "collapse", "bias", "blur", "checkerboard"}
    assert {name for name, each in found.items() if each.found} >= {
        "memorization",
        "collapse",
        "bias",
    }
    assert found["memorization"].numbers["near_copies"] == 1
    assert found["collapse"].numbers["vendi"] < found["collapse"].numbers["vendi_real"]
    assert {path.name for path in tmp_path.iterdir()} == set(auditing.SHEETS)


def test_features_of_the_training_images_are_computed_once(fashion):
    train, test = images(fashion, "train", 300), images(fashion, "test", 60)
    plain, seen = network.pixels(train.shape[1:]), []

    def counted(batch):
        jax.debug.callback(lambda n: seen.append(int(n)), len(batch))
        return plain.features(batch)

    both = [
        audit_reference.AuditReference(train, test, each)
        for each in (plain, dataclasses.replace(plain, name="counted", features=counted))
    ]
    found = [[each.near, each.neighbours(test.source.image[:20], "x")] for each in both]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        np.testing.assert_array_equal(ours.authentic, theirs.authentic)
    # In blocks of 256 padded ones: the training images, 60 and 20 others.
    assert sum(seen) == 2 * audit_reference.CHUNK + 60 + 20


@pytest.mark.heavy
def test_grey_images_without_labels_are_audited_and_real_ones_pass(fashion, tmp_path, caplog):
    train, test = images(fashion, "train", 600, ()), images(fashion, "test", 300, ())
    fresh = fashion["test_images"][300:, ..., None]

    def validate(state, keys, batch):
        return {"brightness": batch["image"].mean((1, 2, 3))}

    with caplog.at_level(logging.INFO, "genjax"):
        found = audit_of(family(fresh, validate=validate), train, test, tmp_path)
    assert (
        "bias: skipped, the images have no labels that the model is free to draw" in caplog.messages
    )
    assert found.keys() == {"memorization", "collapse", "blur", "checkerboard", "overfitting"}
    assert [name for name, each in found.items() if each.found] == []
    assert (found["overfitting"].n, found["overfitting"].n_reference) == (600, 300)


def test_too_few_images_are_refused(fashion, tmp_path):
    train = images(fashion, "train", 600)
    with pytest.raises(ConfigError, match="higher --n than 2"):
        audit_of(family(train.source.image), train, train, tmp_path, n=2)


@pytest.mark.heavy
def test_the_command_prints_and_records_what_it_finds(own_sets, tmp_path, capsys, monkeypatch):
    with zipfile.ZipFile(EARLIER) as archive:
        archive.extractall(tmp_path)
    monkeypatch.setattr(audit_reference, "MOST_HELD_OUT", 40)
    config, build = dcgan_fashion.Config(), dcgan_fashion.build

    def command(place, *more):
        words = ["audit", str(tmp_path / place), "--n", "40", "--data", str(own_sets), *more]
        main("dcgan_fashion", "", config, build, arguments=words)
        return capsys.readouterr().out

    printed = command("run")
    rows = read_rows(tmp_path / "run" / "findings.jsonl")
    assert [row["name"] for row in rows][:3] == ["memorization", "collapse", "bias"]
    assert {row["step"] for row in rows} == {4}
    assert all(f"{row['name']}: " in printed for row in rows)
    assert (tmp_path / "run" / auditing.NEAREST).exists()
    before = sorted(path.name for path in (tmp_path / "export").iterdir())
    command("export", "--to", str(tmp_path / "audit"))
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == before
    assert read_rows(tmp_path / "audit" / "findings.jsonl")
    with pytest.raises(SystemExit) as refused:
        command("export", "--to", str(tmp_path / "audit"))
    assert refused.value.code == 2
    assert "is there already: give another --to" in capsys.readouterr().err


def drawn(n, stream=0):
    return drawing.draw(drawing.factors(np.arange(n), stream))


@pytest.fixture(scope="module")
def alarm_data():
    return drawn(300), drawn(64, 1)


def alarm(folder, held_out, epoch=2):
    source = images_from_arrays(held_out, split="test")
    return CollapseAlarm(lambda: source.evaluation_batches(128), folder, epoch)


def write(folder, step, row):
    writer = MetricsWriter(folder, step, enabled=True)
    writer.write(step, row)
    writer.close()


def test_the_alarm_rings_at_the_second_look_and_once(alarm_data, tmp_path, caplog):
    held_out, healthy = alarm_data
    one = np.repeat(healthy[:1], 64, 0)
    look = alarm(tmp_path, held_out)
    assert look(1, one)["alarm/collapse_seen"] == 0  # in the first epoch
    rung = [look(step, x)["alarm/collapse"] for step, x in enumerate([one, one, one, healthy], 3)]
    assert rung == [0, 1, 1, 0]
    (line,) = caplog.messages
    assert line.startswith("step 4: samples have collapsed: 1.0 effective regions")
    assert "Training continues: look at the samples" in line
    rows = read_rows(tmp_path / "findings.jsonl")
    assert [(row["step"], row["found"]) for row in rows] == [(4, True), (5, True), (6, False)]


def test_a_resumed_run_knows_its_last_look_and_repeats_no_row(alarm_data, tmp_path):
    held_out, healthy = alarm_data
    one = np.repeat(healthy[:1], 64, 0)
    row = alarm(tmp_path, held_out)(3, one)
    assert is_evaluation(row)
    write(tmp_path, 3, row)
    for _ in range(2):  # the second as after a kill before the checkpoint
        assert alarm(tmp_path, held_out)(4, one)["alarm/collapse"] == 1
    assert len(read_rows(tmp_path / "findings.jsonl")) == 1


def test_few_samples_raise_no_alarm_and_leave_no_row(alarm_data, tmp_path):
    held_out, healthy = alarm_data
    assert alarm(tmp_path, held_out)(9, healthy[:16]) == {}
    assert alarm(tmp_path, held_out[:20])(9, healthy) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_alarm_joins_the_scores_and_ranks_no_checkpoint(alarm_data, tmp_path):
    held_out, _ = alarm_data
    evaluation = PeriodicEval(
        dataclasses.replace(family(held_out), draw=lambda key, n: jnp.zeros(n, jnp.int32)),
        DataParallel(1),
        images_from_arrays(held_out, split="test"),
        Settings(steps=1, batch=64),
        jax.random.key(0),
        tmp_path / "samples",
    )
    metrics = MetricsWriter(tmp_path, 0, enabled=True)
    numbers, score = evaluation(2, initial_state({}, {}, {}), metrics)
    metrics.close()
    assert numbers["alarm/collapse_seen"] == 1
    assert score is None


def test_samples_of_every_class_in_turn_are_compared_with_such_images(fashion, tmp_path):
    label, image = fashion["test_labels"], fashion["test_images"][..., None]
    rare = np.flatnonzero((label < 8) | (np.arange(1000) % 20 == 0))  # two of ten are rare
    rare = np.concatenate([rare, *[np.flatnonzero(label == 0)] * 6])  # and one is frequent
    held_out = images_from_arrays(
        image[rare], label[rare], split="test", classes=tuple("0123456789")
    )

    def batches():
        return held_out.evaluation_batches(256)

    each = np.stack([np.flatnonzero(fashion["train_labels"] == k)[:10] for k in range(10)])
    samples = fashion["train_images"][each.T.ravel()][..., None]
    look = CollapseAlarm(batches, tmp_path, 1, by_class=True)(2, samples)
    unaware = CollapseAlarm(batches, tmp_path, 1)(2, samples)
    assert look["alarm/collapse_affinity"] > unaware["alarm/collapse_affinity"]
    assert look["alarm/collapse_seen"] == 0
    np.testing.assert_array_equal(balanced(np.array([0, 0, 0, 1])), [0, 1, 3, 3])


def test_a_finding_that_is_there_is_not_added_again(tmp_path):
    finding = auditing.Finding("blur", True, "sharpness 0.2", "train longer", {"sharpness": 0.2})
    findings.append(tmp_path, 3, [finding])
    findings.append(tmp_path, 3, [finding])
    findings.append(tmp_path, 4, [finding])
    lines = (tmp_path / "findings.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 4]


@pytest.mark.heavy
def test_anyones_images_are_audited_from_a_file(own_sets, tmp_path, capsys, monkeypatch, fashion):
    monkeypatch.setattr(audit_reference, "MOST_HELD_OUT", 100)
    np.savez(tmp_path / "copies.npz", image=fashion["train_images"][:60])
    np.save(tmp_path / "small.npy", np.zeros((9, 8, 8), np.uint8))
    place = ["--against", "fashion_mnist_6k", "--data.dir", str(own_sets)]

    def command(file, *more):
        score.main("audit", [str(tmp_path / file), *place, *more])
        return capsys.readouterr().out

    out = command("copies.npz", "--to", str(tmp_path / "found"))
    assert "60 of 60 images against 6,000 training and 1,000 held-out images" in out
    rows = {row["name"]: row for row in read_rows(tmp_path / "found" / "findings.jsonl")}
    assert rows.keys() == {"memorization", "collapse", "bias", "blur", "checkerboard"}
    assert rows["memorization"]["found"]
    assert not rows["blur"]["found"]
    assert str(tmp_path / "found" / auditing.NEAREST) in out
    for words, said in [
        (("copies.npz", "--to", str(tmp_path / "found")), "is there already: give another --to"),
        (("copies.npz", "--n", "61"), "--n 61: "),
        (("copies.npz", "--n", "2"), "compares 3 images or more"),
        (("small.npy",), "the samples are 8x8x1, the real images 28x28x1"),
        (("copies.npz", "--network", "classifier"), "experiments.classifier export"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            command(*words)
        err = capsys.readouterr().err
        assert (stopped.value.code, err.count("\n")) == (2, 1)
        assert said in err


def test_a_classifier_as_the_network_reads_classes(fashion):
    """Votes of neighbours could not tell them: the classes are those of a rule."""
    train, test = images(fashion, "train", 300), images(fashion, "test", 200)

    def logits(x):
        return jax.nn.one_hot(x[:, 20, 9, 0].astype(int) // 26, 10)

    pixels = network.pixels(train.shape[1:])
    rule = dataclasses.replace(pixels, name="classifier of a rule", logits=logits)
    reference = audit_reference.AuditReference(train, test, rule, most=90)
    audit = auditing.Audit(train.source.image[:50], reference)
    ours, theirs = audit.predicted("class")
    np.testing.assert_array_equal(ours, train.source.image[:50, 20, 9, 0] // 26)
    np.testing.assert_array_equal(theirs, reference.held_out[:, 20, 9, 0] // 26)
