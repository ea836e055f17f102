"""What is measured of images, and how suggestions become settings and a command line."""

import shlex
from dataclasses import dataclass

import numpy as np
import pytest

from genjax.cli.parsing import parse
from genjax.data import DataSettings, ImageSpec
from genjax.errors import ConfigError
from genjax.run.settings import Settings
from genjax.run.suggestions import Facts, Suggestion, nearest_divisor, rounded, suggested


def facts(sample, count=None, classes=0):
    return Facts(ImageSpec(sample.shape[1:], classes, count or len(sample)), sample)


def noise(n, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=100, batch=8)
    data: DataSettings = DataSettings()
    width: int = 16
    levels: tuple[int, ...] = (1, 2)
    flip: bool = False
    rate: float | None = None

    def suggest(self, default, known):
        return [
            Suggestion("run.steps", 50, "short", "arXiv:1234.56789"),
            Suggestion("width", 16, "right"),
            Suggestion("levels", (3,), "deep"),
            Suggestion("flip", True, "alike"),
            Suggestion("rate", -0.5, "odd"),
        ]

    def check(self, spec):
        if self.levels == (9,):
            raise ConfigError("--levels 9 is refused")


def test_moments_are_those_of_the_numbers_between_minus_one_and_one():
    x = np.array([0, 255], np.uint8).repeat(8).reshape(4, 2, 2, 1)
    assert facts(x).deviation == pytest.approx(1)
    assert facts(x).mean == pytest.approx(0)
    assert facts(x).binary
    assert facts(x).extremes == 1
    x = np.array([64, 191], np.uint8).repeat(8).reshape(4, 2, 2, 1)
    assert facts(x).deviation == pytest.approx(63.5 / 127.5)
    assert not facts(x).binary
    assert facts(x).extremes == 0


def test_grey_are_three_channels_that_are_the_same():
    x = noise(4, 4, 4, 1)
    assert facts(x.repeat(3, axis=3)).grey
    assert not facts(x).grey
    assert not facts(noise(4, 4, 4, 3)).grey


def test_asymmetry_is_0_of_noise_and_1_of_images_with_one_difference():
    # Of 400 samples 784 numbers each: a standard error of some 1e-4.
    assert facts(noise(400, 28, 28, 1)).asymmetry < 1e-3
    same = np.tile(np.arange(8, dtype=np.uint8), (5, 8, 1))[..., None]
    assert facts(same).asymmetry == pytest.approx(1, abs=1e-6)
    assert facts(same + noise(1, 8, 1, 1) // 2).asymmetry == pytest.approx(1, abs=1e-6)
    assert facts(np.full((5, 8, 8, 1), 7, np.uint8)).asymmetry == 0


def test_half_of_the_images_mirrored_is_symmetric_whatever_the_images():
    x = np.concatenate([noise(100, 8, 4, 1) // 8, noise(100, 8, 4, 1)], axis=2)
    assert facts(x).asymmetry > 0.5
    both = np.concatenate([x, x[:, :, ::-1]])
    assert facts(both).asymmetry < 0.01


def test_as_many_components_as_directions_hold_the_variance():
    g = np.random.default_rng(1)
    directions = np.linalg.qr(g.normal(size=(64, 3)))[0].T
    x = 127 + (g.normal(size=(200, 3)) * 60) @ directions
    few = facts(np.clip(np.rint(x), 0, 255).astype(np.uint8).reshape(200, 8, 8, 1))
    assert few.components(0.9) == 3
    assert few.components(0.3) == 1
    wide = facts(np.tile(few.sample, (1, 4, 4, 1)))  # more numbers than images
    assert wide.components(0.9) == 3


def test_what_was_given_stays_and_the_rest_is_suggested():
    default = Config()
    found = suggested(Config(width=32, rate=0.25), default, facts(noise(4, 4, 4, 1)))
    assert found.config == Config(Settings(50, 8), DataSettings(), 32, (3,), True, 0.25)
    assert found.lines[0].endswith("in place of 100: short [arXiv:1234.56789]")
    assert found.lines[1].endswith("--width 32      as given in place of 16: right")
    assert found.lines[2].endswith("in place of 1 2: deep")
    starts = {line.index(line.split("  ")[-1].lstrip()) for line in found.lines}
    assert starts == {2 + len("--run.steps 50") + 2}  # one column
    default_lines = suggested(default, default, facts(noise(4, 4, 4, 1))).lines
    assert default_lines[1].endswith("as by default: right")


def test_what_was_given_stays_where_it_is_the_default_too():
    default, known = Config(), facts(noise(4, 4, 4, 1))
    words = ["--no-flip", "--levels", "1", "2", "--run.steps=100"]
    found = suggested(default, default, known, words)
    assert found.config == Config(rate=-0.5)
    assert found.lines[3].startswith("  --no-flip ")
    assert "as given in place of True: alike" in found.lines[3]


def test_the_command_line_leads_to_the_settings():
    default = Config()
    found = suggested(Config(data=DataSettings(folder="a b")), default, facts(noise(4, 4, 4, 1)))
    command = found.command("python -m x")
    assert command.startswith("python -m x ")
    words = shlex.split(command.removeprefix("python -m x "))
    assert parse(Config, words, default=default) == found.config


def test_settings_that_do_not_fit_are_refused_as_in_training():
    with pytest.raises(ConfigError, match="--levels 9 is refused"):
        suggested(Config(levels=(9,)), Config(), facts(noise(4, 4, 4, 1)))


def test_an_experiment_without_suggestions_says_so():
    with pytest.raises(ConfigError, match="--suggest: this experiment has no suggestions"):
        suggested(object(), object(), facts(noise(4, 4, 4, 1)))


def test_numbers_for_flags():
    assert rounded(1234.5) == 1200
    assert rounded(0.000123456, 3) == 0.000123
    assert nearest_divisor((28, 28), 28, 64) == 4
    assert nearest_divisor((32, 64), 64, 64) == 4  # 128 tokens; of 8 there are 32
    assert nearest_divisor((64, 64), 6, 64) == 4
    assert nearest_divisor((31, 31), 31, 64) == 1
