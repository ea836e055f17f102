"""The ledger: current with its rows, runnable, and a miss is reported."""

import dataclasses
import importlib
import json
import runpy
import shlex
import subprocess
import sys
import typing

import pytest
import tyro

from experiments import edm, ledger
from genjax.data import ImageSpec
from genjax.run import scoring
from genjax.run.score_names import ScoreName

ROWS = ledger.rows()
ROW = {
    "paper": "A paper.",
    "what": "bound",
    "schedule": "2 steps",
    "shortened": True,
    "score": "negative_elbo",
    "unit": "nats",
    "published": {"value": 100.0, "source": "table"},
    "expected": None,
    "train": "python -m experiments.vae_fashion --hidden 8 --run.batch 8 --run.steps 2",
    "evaluate": "python -m experiments.vae_fashion evaluate --n 2 --seed 1",
    "note": "",
    "ours": None,
}


@pytest.fixture
def book(monkeypatch, tmp_path):
    """An empty ledger, and its command line in this process: words -> exit code."""
    monkeypatch.setattr(ledger, "ROWS", tmp_path / "ledger")
    monkeypatch.setattr(ledger, "PAGE", tmp_path / "LEDGER.md")
    ledger.ROWS.mkdir()

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["ledger", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            ledger.main()
        return stop.value.code

    return command


def add(**changes):
    (ledger.ROWS / "row.json").write_text(json.dumps(ROW | changes))


def test_the_page_is_current_with_the_rows():
    assert ledger.PAGE.read_text() == ledger.page(ROWS), "run python -m experiments.ledger"


@pytest.mark.parametrize("name", ROWS)
def test_the_commands_of_a_row_parse(name):
    row = ROWS[name]
    words = shlex.split(row["train"])
    module = importlib.import_module(words[2])
    default = module.Config()
    if "--preset" in words:
        at = words.index("--preset")
        default = getattr(module, words[at + 1].upper())
        del words[at : at + 2]
    config = tyro.cli(type(default), args=words[3:], default=default)
    assert shlex.split(row["evaluate"])[2:4] == [words[2], "evaluate"]
    if "--scores" in row["evaluate"]:  # of samples, by a network's features
        wanted = row["evaluate"].partition("--scores ")[2].split()[0]
        kind, network = wanted.rsplit("_", 1)
        assert wanted in typing.get_args(ScoreName)
        assert row["score"] == f"{scoring._KINDS[kind].name}, {network}"
        return
    units = module.build(config, ImageSpec((32, 32, 3), 10, 50_000)).measure.units
    assert units[row["score"]] == row["unit"]


@pytest.mark.parametrize(
    ("value", "expected", "miss"),
    [(100.9, None, False), (101.1, None, True), (90, None, False), (104, 105, False)],
)
def test_a_miss_is_more_than_two_errors_above_the_target(value, expected, miss):
    row = ROW | {"ours": {"value": value, "error": 0.5}}
    row["expected"] = expected and {"value": expected, "source": "table"}
    assert ledger.missed(row) == miss
    assert ("miss" in ledger.verdict(row)) == miss


@pytest.mark.slow
def test_a_row_runs_from_scratch_and_a_miss_exits_with_1(
    book, monkeypatch, tmp_path, own_sets, capsys
):
    true_run = subprocess.run

    def here(words, **options):  # the experiment's commands, in this process
        if words[:2] != [sys.executable, "-m"]:
            return true_run(words, **options)
        monkeypatch.setattr(sys, "argv", words[2:])
        monkeypatch.delitem(sys.modules, words[2], raising=False)  # as in a new process
        runpy.run_module(words[2], run_name="__main__")
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(ledger.subprocess, "run", here)
    add()
    directory = tmp_path / "run"
    assert book("run", "row", "--data-dir", own_sets, "--dir", directory) == 1
    ours = json.loads((ledger.ROWS / "row.json").read_text())["ours"]
    assert (ours["n"], ours["steps"], ours["split"]) == (2, 2, "test")
    assert ours["seeds"] == {"training": 0, "evaluation": 1}
    assert "**miss** by" in ledger.PAGE.read_text()
    assert book("run", "row", "--dir", directory) == 2  # never into an existing run

    add(published={"value": 1e6, "source": "table"})
    assert book("record", "row", directory, "--seconds", 3, "--commit", "abc") == 0
    assert "| hit |" in ledger.PAGE.read_text()
    assert "commit abc" in ledger.PAGE.read_text()

    add(train=ROW["train"].replace("--hidden 8", "--hidden 9"))
    capsys.readouterr()
    assert book("record", "row", directory, "--seconds", 3) == 2
    assert "--hidden 8, and the row 9" in capsys.readouterr().err


def test_a_score_of_samples_and_a_preset_are_recorded(book, tmp_path, capsys):
    """As `evaluate --scores` leaves them: a value with an interval, here of 1.96 errors."""
    distance = {"name": "frechet distance, inception", "value": 1.9, "low": 1.704, "high": 2.096}
    distance |= {"level": 0.95, "n": 50_000, "seed": 0, "reference": "cifar10, train"}
    preset = json.loads(json.dumps(dataclasses.asdict(edm.PAPER)))
    config = {"experiment": "edm", "config": preset}
    (tmp_path / "evaluation.json").write_text(json.dumps({"step": 9, "distances": [distance]}))
    add(train="python -m experiments.edm --preset paper", score=distance["name"], unit="FID")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert book("record", "row", tmp_path, "--seconds", 3, "--commit", "abc") == 0
    ours = json.loads((ledger.ROWS / "row.json").read_text())["ours"]
    assert (ours["value"], ours["error"], ours["split"]) == (1.9, 0.1, "cifar10, train")
    assert "ours: 1.90 ± 0.10 FID on 50,000 images of cifar10, train" in ledger.PAGE.read_text()
    (tmp_path / "config.json").write_text(json.dumps(config | {"config": preset | {"blocks": 2}}))
    assert book("record", "row", tmp_path, "--seconds", 3) == 2
    assert "not --preset paper: its blocks is 2" in capsys.readouterr().err


def test_an_unknown_row_lists_the_rows(book, capsys):
    add()
    assert book("run", "roww") == 2
    assert "there are: row" in capsys.readouterr().err
