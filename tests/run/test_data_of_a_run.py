"""What a run says, records and shows of its images; classes by name; runs of earlier versions."""

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from PIL import Image

from genjax import data, run
from genjax.cli.main import main
from genjax.data import DataSettings
from genjax.errors import ConfigError
from genjax.run import Settings
from genjax.train.game import Aux, Player


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=2, batch=4, samples=4, every=2, devices=1, scan_steps=1)
    data: DataSettings = DataSettings(size=2)
    classes: bool = False


def build(config, spec):
    """Every image is the same, but for the class: its grey level is that of the class."""
    layer = nn.Dense(int(np.prod(spec.shape)))
    classes = spec.classes_for("--classes") if config.classes else None

    def loss(params, state, keys, batch):
        x = batch["image"].reshape(len(keys), -1) / 255
        return jnp.mean((layer.apply(params["net"], jnp.ones((len(keys), 1))) - x) ** 2), Aux()

    def generate(state, keys, z, label):
        level = jnp.zeros(len(z)) if label is None else label / 10
        return jnp.broadcast_to(level[:, None, None, None], (len(z), *spec.shape))

    return run.Family(
        {"net": Player(loss, optax.sgd(0.1))},
        lambda key, before: ({"net": layer.init(key, jnp.ones((1, 1)))}, {}),
        generate,
        latent=(1,),
        classes=classes,
    )


def command(*words):
    main("levels", "", Config(), build, arguments=[str(word) for word in words])


@pytest.fixture
def folder(tmp_path):
    """Four classes, three of them in each split; cat 3 is grey 30 to 37, and so on."""
    for i, name in enumerate(("ape", "red rose", "Tür", "9")):
        for split in ("Train", "Test"):
            if (name, split) not in (("ape", "Test"), ("9", "Train")):
                for k in range(8 if split == "Train" else 3):
                    path = tmp_path / "set" / split / name / f"{k}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("L", (2, 2), 70 + 10 * i + k).save(path)
    (tmp_path / "set" / "Train" / "ape" / "thumbs.db").touch()
    return tmp_path / "set"


def test_a_run_says_records_and_shows_what_it_was_given(folder, tmp_path, capsys):
    where = tmp_path / "run"
    flags = ["--data.folder", folder, "--run.dir", where]
    command(*flags)
    out = capsys.readouterr().out.splitlines()
    assert out[:6] == [
        "data: set, 24 images 2x2x1 to train on",
        "held out: 9 (the folder Test)",
        "4 classes (train + test): 9 0 + 3, Tür 8 + 3, ape 8 + 0, red rose 8 + 3",
        "files: 2x2 33",
        "pixels: L 33",
        "skipped: .db, no known image format 1",
    ]
    assert "note: no image to train on is of the class 9" in out
    values = json.loads((where / "config.json").read_text())
    assert values["images"]["names"] == ["9", "Tür", "ape", "red rose"]
    assert values["dataset"]["splits"] == {"train": 24, "test": 9}
    assert values["dataset"]["skipped"] == {".db, no known image format": 1}
    sheet = np.asarray(Image.open(where / "samples" / "data.png"))
    shown = data.Dataset(DataSettings(folder=str(folder), size=2)).train.batch(0, 0, 24)
    tiles = sheet[2 + 32 :: 66, 2 + 32 :: 66, 0]  # 24 images of 2 pixels, each enlarged to 64
    np.testing.assert_array_equal(tiles.ravel()[:24], shown["image"][:, 0, 0, 0])
    command(*flags, "--run.steps", 4)
    assert "resumed at step 2 of 4" in capsys.readouterr().out


def test_classes_are_drawn_by_name_from_a_run_and_its_export(folder, tmp_path, capsys):
    where, export = tmp_path / "run", tmp_path / "export"
    command("--data.folder", folder, "--run.dir", where, "--classes")
    command("export", where, "--to", export)
    for place in (where, export):
        # "9" is the name of class 0, so that the name counts and not the number.
        for label, level in (("red rose", 77), ("Tür", 26), ("9", 0), ("2", 51)):
            to = tmp_path / f"{place.name} {label}"
            command("sample", place, "--n", 2, "--label", label, "--to", to)
            images = np.load(to / "sample_0.npz")
            assert images["images"].max() in (level, level - 1)
            assert len({*images["labels"].tolist()}) == 1
    for label, message in (
        ("rose", "--label rose is not a class of this run: 9, Tür, ape, red rose"),
        ("7", "--label 7 is not a class of this run: 0 to 3"),
        ("-1", "--label -1 is not a class"),
        ("1" * 5000, "is not a class"),
        ("", "--label is empty"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command("sample", export, f"--label={label}", "--to", tmp_path / "none")
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    family = build(Config(classes=True), data.ImageSpec((2, 2, 1), 4, 24))
    assert run.open(where, family).sample(2, label="Tür").max() in (25, 26)
    assert run.open(where, family).sample(2, label=2).max() == 51


@pytest.mark.parametrize("kind", ["flat", "an image beside", "one class"])
def test_classes_that_are_not_there_are_refused(tmp_path, capsys, kind):
    place = tmp_path / "set"
    for i in range(6):
        path = place / ("" if kind == "flat" else "cat" if i % 2 or kind == "one class" else "dog")
        path.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), i).save(path / f"{i}.png")
    if kind == "an image beside":
        Image.new("L", (2, 2)).save(place / "cover.png")
    with pytest.raises(SystemExit) as stop:
        command("--data.folder", place, "--classes", "--run.dir", tmp_path / "run")
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --classes needs images of several classes, and these have ")
    assert not (tmp_path / "run").exists()


def test_a_label_of_a_run_without_classes_is_refused(folder, tmp_path, capsys):
    command("--data.folder", folder, "--run.dir", tmp_path / "run")
    with pytest.raises(SystemExit):
        command("sample", tmp_path / "run", "--label", "ape")
    assert "none: it has no classes" in capsys.readouterr().err


def forget(path, *names):
    """Makes a config.json one of an earlier version, which had no such settings."""
    values = json.loads(path.read_text())
    values.pop("dataset")
    values["images"].pop("names")
    for name in names:
        values["config"]["data"].pop(name)
    path.write_text(json.dumps(values))


EARLIER = ("subfolders", "fit", "range", "frames", "follow_links", "rules")


def test_a_folder_run_of_an_earlier_version_resumes_with_its_images(folder, tmp_path, capsys):
    where = tmp_path / "run"
    flags = ["--data.folder", folder, "--run.dir", where]
    command(*flags, "--data.rules", 1, "--data.channels", 3)
    forget(where / "config.json", *EARLIER)
    capsys.readouterr()
    command(*flags, "--data.channels", 3, "--run.steps", 4)
    out = capsys.readouterr().out
    assert "resumed at step 2 of 4" in out
    assert "2 classes (train + test): Test" in out  # as it was started, and that is said
    assert "note: understood by the rules of earlier versions (--data.rules 1)" in out
    values = json.loads((where / "config.json").read_text())
    assert values["config"]["data"]["rules"] == 1
    family = build(Config(), data.ImageSpec((2, 2, 3), 2, 30))
    assert run.open(where, family).images.train.classes == ("Test", "Train")


def test_from_python_the_rules_of_an_earlier_run_must_be_asked_for(folder, tmp_path):
    settings = Settings(steps=2, batch=4, samples=4, devices=1, dir=str(tmp_path / "run"))
    for rules in (1, 2):
        images = data.folder(folder, size=2, rules=rules)
        family = build(Config(), images.spec)
        if rules == 1:
            run.train(family, images, settings)
            forget(tmp_path / "run" / "config.json", *EARLIER)
        else:
            with pytest.raises(ConfigError, match=r"--data\.rules was 1, now 2"):
                run.train(family, images, settings)


def test_a_size_of_three_numbers_in_config_json_is_refused(folder, tmp_path, capsys):
    command("--data.folder", folder, "--run.dir", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    text = path.read_text()
    for size in ("[2, 2, 2]", "[2]", '["a", "b"]', "{}"):
        path.write_text(text.replace('"size": 2', f'"size": {size}'))
        with pytest.raises(SystemExit) as stop:
            command("sample", tmp_path / "run")
        assert stop.value.code == 2
        assert "size cannot be" in capsys.readouterr().err


def test_training_takes_a_closed_terminal(folder, tmp_path, monkeypatch):
    def closed(*words, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.print", closed)
    command("--data.folder", folder, "--run.dir", tmp_path / "run")
    assert run.open(tmp_path / "run", build(Config(), data.ImageSpec((2, 2, 1), 4, 24))).step == 2


def test_the_state_does_not_depend_on_the_sheet_of_images(folder, tmp_path):
    command("--data.folder", folder, "--run.dir", tmp_path / "run")
    family = build(Config(), data.ImageSpec((2, 2, 1), 4, 24))
    before = run.open(tmp_path / "run", family).state
    (tmp_path / "run" / "samples" / "data.png").unlink()
    command("--data.folder", folder, "--run.dir", tmp_path / "run")
    after = run.open(tmp_path / "run", family).state
    jax.tree.map(np.testing.assert_array_equal, before, after)
