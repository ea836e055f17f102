"""The parser: one readable line, and the name that was probably meant."""

import io
import sys

import pytest

from experiments import ddpm_fashion
from genjax.cli.main import main
from genjax.cli.options import COMMANDS
from genjax.cli.parsing import flags, parse
from genjax.errors import ConfigError

CONFIG = ddpm_fashion.Config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--lr 3", "there is no flag --lr: did you mean --learning-rate?"),
        ("--epochs 3", "there is no flag --epochs: did you mean --run.steps?"),
        ("--batch-size=3", "there is no flag --batch-size: did you mean --run.batch?"),
        ("--batch_size 3", "there is no flag --batch-size: did you mean --run.batch?"),
        ("--seed 3", "there is no flag --seed: did you mean --run.seed?"),
        ("--data.foldr x", "there is no flag --data.foldr: did you mean --data.folder?"),
        ("--xyzzy", "there is no flag --xyzzy; --help lists those there are"),
        ("--levels many", "--levels takes a whole number, not many"),
        ("--run.every 1.5", "--run.every takes a whole number or None, not 1.5"),
        ("--decay x", "--decay takes a whole number or steps or None, not x"),
        ("--attention 7 b", "--attention takes whole numbers, not 7 b"),
        ("--ema x", "--ema takes a number, not x"),
        (
            "--sampler x",
            "--sampler takes one of ddim, ancestral, euler, heun, dpm_solver_2m, dpm_solver_3m, "
            "unipc, lms, deis, dpm_solver_2, dpm_solver_3, dpm_solver_2s, dpm_solver_sde, "
            "interpolant_sde, predictor_corrector; not 'x'",
        ),
        ("--levels", "--levels needs a value"),
        ("--levels 3 4", "--levels takes one value, not 3 4"),
        ("--flip=0", "--flip takes no value, not 0"),
        ("--classes 1", "--classes takes no value, not 1"),
        ("x", "x belongs to no flag"),
        ("--dropout 1", "--dropout must be below 1, not 1.0"),
        ("--run.seed -1", "--run.seed must be at least 0, not -1"),
    ],
)
def test_what_is_wrong_is_one_line(words, message):
    with pytest.raises(ConfigError) as error:
        parse(CONFIG, words.split(), prog="x", default=CONFIG())
    assert str(error.value) == message


@pytest.mark.parametrize("words", ["--levels many", "--sampler x", "--levels 3 4"])
def test_an_ascii_terminal_shows_the_same_line(words, monkeypatch):
    with pytest.raises(ConfigError) as utf8:
        parse(CONFIG, words.split(), prog="x", default=CONFIG())
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(ConfigError) as ascii_only:
        parse(CONFIG, words.split(), prog="x", default=CONFIG())
    assert str(ascii_only.value) == str(utf8.value)


def test_flags_are_spelled_as_tyro_does():
    known = dict(flags(CONFIG))
    assert known.keys() >= {"run.steps", "levels", "flip", "no-flip", "run.no-sharded"}
    assert "dir" not in dict(flags(COMMANDS["sample"]))  # it has a place, no name
    words = [f"--{name}" for name, value in known.items() if not value]
    parse(CONFIG, words, prog="x", default=CONFIG())
    given = parse(CONFIG, ["--learning_rate", "1", "--decay=None"], prog="x", default=CONFIG())
    assert (given.learning_rate, given.decay) == (1.0, None)
    assert parse(CONFIG, ["--decay", "steps"], prog="x", default=CONFIG()).decay == "steps"


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("export", "", "--to is required"),
        ("sample", "--n 0", "--n must be at least 1, not 0"),
        ("sample", "--n -3", "--n must be at least 1, not -3"),
        ("sample", "--n 1000000000000", "--n must be at most 2,147,483,647"),
        ("sample", "--seed 4294967296", "--seed must be at most 4,294,967,295"),
        ("sample", "--count 3", "did you mean --n?"),
        ("interpolate", "--pairs 0", "--pairs must be at least 1, not 0"),
        ("interpolate", "--steps 1", "--steps must be at least 2, not 1"),
        ("evaluate", "--n -1", "--n must be at least 0, not -1"),
    ],
)
def test_the_flags_of_commands_have_limits(command, words, message):
    with pytest.raises(ConfigError) as error:
        parse(COMMANDS[command], words.split(), prog="x")
    assert message in str(error.value)


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main("ddpm_fashion", "", CONFIG(), ddpm_fashion.build, arguments=words)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_mistyped_command_suggests_the_nearest(capsys):
    assert refused(capsys, "sampl", "--n", "3").startswith(
        "error: there is no command sampl, did you mean sample? there are train, sample, "
    )
    assert "there is no command runs; there are" in refused(capsys, "runs")


def test_out_of_memory_is_one_line(capsys):
    def build(config, spec):
        raise MemoryError

    with pytest.raises(SystemExit) as stop:
        main("ddpm_fashion", "", CONFIG(), build, arguments=["--run.steps", "0"])
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: out of memory")
