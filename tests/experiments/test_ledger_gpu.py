"""The plan of rows for some minutes of a device: what fits is done, what was begun goes on."""

import importlib
import json
import sys
import time
from dataclasses import replace

import pytest

from experiments import ledger, ledger_gpu
from experiments.ledger_gpu import Gpu, Row, System, expected, fill
from genjax.cli.parsing import parse
from genjax.data import ImageSpec

FLOOR = {"value": 0.5, "low": 0.4, "high": 0.6}
DISTANCE = {"name": "kd_x", "value": 3.0, "low": 2.0, "high": 4.0, "network": "x", "floor": FLOOR}


@pytest.fixture
def device(monkeypatch, tmp_path):
    """A device whose runs are files, and a clock that they move: the words of each process."""
    clock, calls = [0.0], []

    def python(words, deadline):
        seconds = 60 * float(words[words.index("--run.minutes") + 1]) if "--run.dir" in words else 5
        # A run that was stopped has the rest to do.
        directory = words[words.index("--run.dir") + 1] if "--run.dir" in words else words[2]
        place = tmp_path / directory
        half = place / "half"
        seconds -= float(half.read_text()) if "--run.dir" in words and half.exists() else 0
        calls.append(words)
        left = deadline - ledger_gpu.GRACE_SECONDS - clock[0]
        (place / "samples").mkdir(parents=True, exist_ok=True)
        if seconds > left:
            half.write_text(str(left))
            clock[0] += left
            raise ledger_gpu.Stopped(left)
        clock[0] += seconds
        (place / "samples" / "step_7.png").write_bytes(b"png")
        config = {"data": {"name": "photos"}, "run": {"batch": 8, "seed": 0}}
        (place / "config.json").write_text(json.dumps({"config": config}))
        scores = {"bits": {"value": 2.5, "error": 0.1, "unit": "bits/dim"}}
        evaluation = {"step": 7, "split": "test", "n": 9, "scores": scores, "distances": [DISTANCE]}
        (place / "evaluation.json").write_text(json.dumps(evaluation))
        return seconds

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ledger_gpu, "_python", python)
    monkeypatch.setattr(ledger_gpu, "_device", lambda: {"device": "a GPU", "jax": "1"})
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ledger_gpu, "SYSTEMS", {"a": System("a_x", ""), "b": System("b_x")})
    rows = tuple(Row(system, minutes) for minutes in (1, 4) for system in ("a", "b"))
    monkeypatch.setattr(ledger_gpu, "PLAN", rows)
    return calls


def trained(calls):
    return [words[words.index("--run.dir") + 1] for words in calls if "--run.dir" in words]


def test_what_fits_is_done_in_order_and_what_does_not_is_left(device, tmp_path, capsys):
    fill(Gpu(7.5, to="rows"))
    # 70 + 65 s, then 240 + 10; of the 65 s that are left 245 cannot be taken.
    assert trained(device) == ["rows/a_1_minutes", "rows/b_1_minutes", "rows/a_4_minutes"]
    book = json.loads((tmp_path / "rows" / "rows.json").read_text())
    row = book["a_1_minutes"]
    assert (row["images_seen"], row["device"], row["data"]) == (56, "a GPU", "photos")
    assert row["scores"]["kd_x"]["floor"] == FLOOR
    assert row["scores"]["bits"]["n"] == 9
    assert row["seconds"] == {"training": 60, "evaluation": 10}
    assert (tmp_path / "rows" / "a_1_minutes.png").read_bytes() == b"png"
    printed = capsys.readouterr().out
    assert "b_4_minutes: left for another call" in printed
    assert "| a | 1 | 56 | 2.5 ± 0.1 | 3 (2 to 4), floor 0.5 | 70 | a GPU |" in printed
    before = len(device)
    fill(Gpu(1, to="rows"))
    assert len(device) == before  # nothing is repeated


def test_a_row_that_was_stopped_goes_on_first(device, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_gpu, "MORE_SECONDS", -30.0)  # an estimate that was too low
    fill(Gpu(0.9, to="rows"))
    book = json.loads((tmp_path / "rows" / "rows.json").read_text())
    assert not book["a_1_minutes"]["complete"]
    stopped = book["a_1_minutes"]["seconds"]["training"]
    assert stopped == pytest.approx(54 - ledger_gpu.GRACE_SECONDS)
    assert expected(Row("a", 1), book) == 60 - stopped - 30
    fill(Gpu(20, to="rows", rows=("b", "a_1_minutes")))
    assert trained(device)[1:] == ["rows/a_1_minutes", "rows/b_1_minutes", "rows/b_4_minutes"]
    book = json.loads((tmp_path / "rows" / "rows.json").read_text())
    assert book["a_1_minutes"]["seconds"]["training"] == pytest.approx(60)


def test_a_row_that_fails_is_named_and_the_others_are_done(device, tmp_path, monkeypatch, capsys):
    works = ledger_gpu._python

    def fails(words, deadline):
        if words[0] == "a_x":
            raise ledger_gpu.Unfinished("a_x ended with exit code 1")
        return works(words, deadline)

    monkeypatch.setattr(ledger_gpu, "_python", fails)
    fill(Gpu(5, to="rows"))
    book = json.loads((tmp_path / "rows" / "rows.json").read_text())
    assert book["a_1_minutes"]["trouble"] == "a_x ended with exit code 1"
    assert book["b_1_minutes"]["complete"]


@pytest.mark.parametrize("name", ledger_gpu.SYSTEMS)
def test_the_words_of_a_system_parse_and_its_settings_fit_cifar10(name):
    experiment, *words = ledger_gpu.SYSTEMS[name].words.split()
    module = importlib.import_module(f"experiments.{experiment}")
    config = parse(module.Config, [*words, "--run.minutes", "1"], default=module.Config())
    assert config.data.name == "cifar10"
    config.check(ImageSpec((32, 32, 3), 10, 50_000))


def test_an_unknown_row_is_named_in_one_line(device, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ledger", "gpu", "--minutes", "1", "--rows", "nonsense"])
    with pytest.raises(SystemExit) as stop:
        ledger.main()
    assert stop.value.code == 2
    assert "no row or system 'nonsense'; there are: a, a_1_minutes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_row_of_a_real_run_is_trained_scored_and_kept(tmp_path, monkeypatch, own_sets):
    tiny = "vae_fashion --hidden 8 --latent 2 --run.batch 8 --run.samples 4"
    monkeypatch.setattr(ledger_gpu, "SYSTEMS", {"vae": System(tiny, "--n 4")})
    monkeypatch.setattr(ledger_gpu, "PLAN", (Row("vae", 0.02),))
    scores = {"scores": ("kd_pixels",), "n": 40}
    settings = Gpu(5, data_dir=str(own_sets), to=str(tmp_path), **scores)
    fill(settings)
    (row,) = json.loads((tmp_path / "rows.json").read_text()).values()
    assert row["complete"], row
    assert row["images_seen"] == 8 * row["steps"]
    assert row["scores"]["kd_pixels"]["n"] == 40
    assert {"nll", "kl"} & row["scores"].keys()
    assert (tmp_path / "vae_0.02_minutes.png").exists()
    fill(replace(settings, minutes=1e-3))
