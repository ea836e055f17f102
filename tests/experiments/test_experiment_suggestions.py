"""`--suggest`, over all experiments and presets: settings they have, that fit and that train."""

import importlib
import shlex
from pathlib import Path

import numpy as np
import pytest

from experiments import dcgan_fashion, ddpm_cifar10, dit, edm, flow_cifar10, vae_fashion
from genjax.cli.main import main
from genjax.cli.parsing import flags, parse
from genjax.data import DataSettings, ImageSpec
from genjax.errors import ConfigError
from genjax.run.settings import Settings
from genjax.run.suggestions import Facts, suggested

PLACE = Path(edm.__file__).parent
MODULES = {
    path.stem: importlib.import_module(f"experiments.{path.stem}")
    for path in sorted(PLACE.glob("*.py"))
    if '\n    main("' in path.read_text() and path.stem != "__main__"
}


def facts(shape, count, classes=0, values=(64, 191)):
    # Few of them, as symmetric as noise is: 40 of many numbers.
    sample = np.random.default_rng(0).choice(np.array(values, np.uint8), (40, *shape))
    return Facts(ImageSpec(shape, classes, count), sample, count // classes if classes else None)


IMAGES = {
    "clothes": facts((28, 28, 1), 6000, 10),
    "CIFAR-10": facts((32, 32, 3), 50_000, 10),
    "photos": facts((64, 64, 3), 8500),
    "few": facts((32, 32, 3), 40, 2),
    "wide": facts((48, 96, 3), 900, 3),
    "large": facts((256, 256, 3), 100_000, 5),
    "odd": facts((50, 50, 1), 2000, 2),
}
# As in training, by number of the preset: a classifier needs labels, the tests' eight devices have
# two of the few images each, of which one in four cannot learn steps, and tuning needs a teacher.
REFUSED = {
    "classifier": {(0, "photos")},
    "shortcut": {(0, "few"), (1, "few")},
    "consistency": {(1, images) for images in IMAGES},
}


@pytest.mark.parametrize("name", MODULES)
def test_every_experiment_and_preset_has_suggestions_that_fit(name):
    kind = MODULES[name].Config
    defaults = [kind(), *(c for c in vars(MODULES[name]).values() if type(c) is kind)]
    refused = set()
    for i, default in enumerate(defaults):
        for images, known in IMAGES.items():
            try:
                found = suggested(default, default, known)
            except ConfigError:
                refused.add((i, images))
                continue
            settings = [each.setting for each in default.suggest(default, known)]
            assert len(found.lines) == len(settings) == len(set(settings))
            words = shlex.split(found.command(""))
            assert parse(kind, words, default=default) == found.config
            mine = dict(flags(kind))
            assert all(line.split()[0].removeprefix("--") in mine for line in found.lines)
    assert refused == REFUSED.get(name, set())


@pytest.mark.parametrize("default", [edm.PAPER, ddpm_cifar10.Config(), flow_cifar10.Config()])
def test_a_papers_settings_are_suggested_for_the_papers_images(default):
    assert suggested(default, default, IMAGES["CIFAR-10"]).config == default


def values(default, known, **given):
    config = type(default)(**given) if given else default
    return {each.setting: each.value for each in config.suggest(default, known)}


def test_noise_levels_follow_deviation_and_size():
    default = edm.Config()
    found = values(default, IMAGES["CIFAR-10"])
    assert (found["data_std"], found["noise_mean"], found["noise_std"]) == (0.5, -1.2, 1.2)
    found = values(default, facts((32, 32, 3), 5000, values=(0, 255)))
    assert (found["data_std"], found["noise_mean"]) == (1.0, -0.5)  # -1.2 + ln 2
    found = values(default, IMAGES["large"])
    assert (found["noise_mean"], found["noise_std"]) == (0.6, 1.6)  # -0.8 + ln 4


def test_lengths_keep_their_share_of_a_shorter_run():
    default = edm.Config()
    found = values(default, IMAGES["clothes"], run=Settings(150, 32, every=500))
    assert (found["warm_up"], found["half_life"], found["reference"]) == (320, (300,), 1600)
    assert found["run.every"] == 50
    assert values(default, IMAGES["clothes"], run=Settings(0, 32, every=500))["run.every"] == 1
    default = dit.Config()
    assert values(default, IMAGES["clothes"], run=Settings(0, 32, every=400))["ema"] < 0.5
    half = np.log(0.5) / np.log(default.ema) / 3  # in a third of the steps
    found = values(default, IMAGES["clothes"], run=Settings(500, 32, every=500))
    assert found["ema"] == pytest.approx(0.5 ** (1 / half), rel=1e-4)
    assert found["warm_up"] == 33


def test_a_run_of_minutes_takes_its_time_on_larger_images_and_a_papers_a_limit_of_passes():
    mine = DataSettings(folder="photos")
    found = values(edm.Config(), IMAGES["photos"], data=mine)
    assert found["run.steps"] == 290  # 1500 * (28 / 64)^2
    assert values(edm.PAPER, IMAGES["photos"])["run.steps"] == 4000 * 8500 // 512
    found = values(edm.Config(), IMAGES["photos"], run=Settings(1500, 32, minutes=2, every=500))
    assert found.keys() & {"run.steps", "run.every", "run.minutes"} == {"run.minutes"}


def test_few_images_get_smaller_batches_and_what_keeps_from_copies():
    found = values(edm.Config(), IMAGES["few"])
    assert (found["run.batch"], found["dropout"], found["augment"]) == (16, 0.1, 0.12)
    assert found["learning_rate"] == 0.0014  # 0.002 / sqrt(2)
    found = values(edm.Config(), IMAGES["CIFAR-10"])
    assert (found["run.batch"], found["dropout"], found["augment"]) == (32, 0, 0)
    assert values(dcgan_fashion.Config(), IMAGES["few"])["augment"] == "ada"
    assert values(dcgan_fashion.Config(), IMAGES["CIFAR-10"])["augment"] == "none"
    assert values(dcgan_fashion.Config(), IMAGES["clothes"])["augment"] == "flip"


def test_the_rate_follows_a_batch_and_a_width_that_were_asked_for():
    default = edm.Config()
    usual = default.learning_rate
    found = values(default, IMAGES["clothes"], run=Settings(1500, 128), channels=32)
    assert found["learning_rate"] == usual  # twice by the batch, half by the width
    assert found["run.steps"] == 380  # 375, in two digits
    assert values(default, IMAGES["clothes"], channels=32)["learning_rate"] == usual / 2


def test_networks_follow_the_size():
    found = values(edm.Config(), IMAGES["photos"])
    assert (found["multipliers"], found["attention"]) == ((1, 2, 2, 2), (8,))
    found = values(edm.Config(), IMAGES["odd"])
    assert (found["multipliers"], found["attention"]) == ((1, 2), ())
    assert values(dcgan_fashion.Config(), IMAGES["photos"])["widths"] == (256, 128, 64, 32)
    assert values(dit.Config(), IMAGES["photos"])["patch"] == 8
    assert values(dit.Config(), IMAGES["photos"])["bottleneck"] == 64
    assert values(dit.JIT, IMAGES["large"])["patch"] == 16
    assert values(vae_fashion.Config(), IMAGES["photos"])["conv"]
    assert "hidden" not in values(vae_fashion.Config(), IMAGES["photos"])


def test_labels_that_are_not_there_are_not_asked_for():
    for default in (edm.PAPER, dit.JIT):
        found = suggested(default, default, IMAGES["photos"]).config
        assert not found.classes
        found.check(IMAGES["photos"].spec)


def command(*words):
    main("edm", edm.__doc__, edm.Config(), edm.build, {"paper": edm.PAPER}, list(words))


def test_the_command_prints_a_command_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 1), np.uint8)
    np.save(tmp_path / "images.npy", noise)
    command("--suggest", "--preset", "paper", "--data.folder", "images.npy", "--data.size", "16")
    *_, last = capsys.readouterr().out.splitlines()
    assert " --preset paper " in last
    assert "--no-classes" in last.split()
    assert " --data.folder images.npy" in last
    assert "--suggest" not in last
    command("--suggest", "--data.folder", "images.npy", "--data.size", "16", "--dropout", "0")
    out = capsys.readouterr().out
    assert "--dropout 0.0" in out
    assert "as given in place of 0.1" in out  # 1,500 * 32 images of 54
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]


def test_bad_data_is_refused_with_the_line_of_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = []
    for flag in ([], ["--suggest"]):
        with pytest.raises(SystemExit) as stop:
            command("--data.folder", "nothing", *flag)
        assert stop.value.code == 2
        lines.append(capsys.readouterr().err)
    assert lines[0] == lines[1]
    assert lines[0].startswith("error: ")
