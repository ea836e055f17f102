"""The page of a run and the comparison of runs: contents, and directories that are a stranger's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genjax import files
from genjax.cli import report
from genjax.errors import ConfigError
from genjax.report import grids, rendering
from genjax.report.embedding import Embedder
from genjax.run import comparison_page, page_in_training, run_page
from genjax.train import digests
from tests.report.test_rendering import HOSTILE, Elements, data_of

ROOT = Path(__file__).parent.parent.parent


def rows(path, *given):
    path.write_text("".join(json.dumps(row) + "\n" for row in given))


def a_run(folder, name="some_fashion", **settings):
    """A finished run of two steps of evaluation, with everything that a page shows."""
    folder.mkdir(parents=True)
    run = {"steps": 200, "batch": 32, "samples": 9, "dir": "/home/me/private/runs/first"}
    config = {"run": {**run, **settings}, "data": {"name": "fashion_mnist_6k"}, "beta": 4.0}
    counts = {"Coat": [600, 100], "Bag": [None, None]}
    values = {
        "experiment": name,
        "genjax": "0.1.0",
        "config": config,
        "images": {"shape": [28, 28, 1], "classes": 2, "count": 6000, "names": ["Coat", "Bag"]},
        "dataset": {"name": "fashion_mnist_6k", "classes": counts, "notes": ["images are dark"]},
        "changes": [
            {"setting": "--beta", "before": 1.0, "after": 4.0, "stage": "", "step": 100},
        ],
    }
    (folder / "config.json").write_text(json.dumps(values))
    rows(
        folder / "metrics.jsonl",
        {"step": 50, "vae/loss": 3.0, "vae/kl": 1.0, "images_per_second": 800.0, "seconds": 2.0},
        {"step": 100, "vae/loss": 2.0, "vae/kl": 1.5, "images_per_second": 800.0, "seconds": 2.0},
        {"step": 100, "test/kl": 1.25},
        {"step": 200, "critic/real": 0.75, "critic/fake": 0.25},
        {"step": 200, "alarm/collapse": 1.0, "alarm/collapse_seen": 1.0},
    )
    score = {"name": "kd pixels", "n": 64, "reference": "test", "low": 0.5, "high": 1.5}
    floor = {"floor": {"value": 0.125}, "better": "lower"}
    rows(
        folder / "scores.jsonl",
        {"step": 100, "value": 1.0, **score, **floor},
        {"step": 200, "value": 0.75, **score, **floor},
    )
    rows(
        folder / "findings.jsonl",
        {"step": 100, "name": "collapse", "found": False, "summary": "fine", "advice": "none"},
        {"step": 200, "name": "collapse", "found": True, "summary": "2 of 10", "advice": "stop"},
        {"step": 200, "name": "blur", "found": False, "summary": "sharp", "advice": ""},
    )
    rows(folder / "faults.jsonl", {"step": 42, "not_finite": ["vae/loss"], "answer": "skip"})
    started = {"command": "python -m experiments.some_fashion", "commit": "abc123", "device": "cpu"}
    rows(folder / "starts.jsonl", {"step": 0, **started, "changed": {"--beta": 1.0}})
    profile = {"name": "KL per dimension", "axis": "dimension", "x": [1, 2], "y": [0.5, 0.25]}
    rows(folder / "profiles.jsonl", {"step": 100, **profile}, {"step": 200, **profile})
    codes = {"step": 200, "share": 0.5, "xy": [[0, 0], [1, 2]], "label": [0, 1]}
    (folder / "codes.json").write_text(json.dumps(codes))
    rng = np.random.default_rng(0)
    for name in ("samples/step_100", "samples/step_200", "samples/data", "audit_nearest"):
        grids.save(folder / f"{name}.png", grids.grid(rng.integers(0, 256, (9, 28, 28, 1), "u1")))
    for name in ("samples/reconstructions_200", "interpolate_0", "edit_left_0"):
        grids.save(folder / f"{name}.png", grids.grid(rng.integers(0, 256, (9, 28, 28, 1), "u1")))
    for step, value in ((100, 2.0), (200, 1.0)):
        place = folder / "checkpoints" / str(step)
        (place / "state").mkdir(parents=True)
        (place / "state" / "data").write_bytes(bytes(100))
        digests.write(place, step, value)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("page") / "first")


def html(folder):
    return rendering.render(run_page.page(folder, Embedder()))


def test_the_page_shows_what_the_directory_holds(run):
    text = html(run)
    for shown in (
        "some_fashion", "200 of 200", "finished", "4 s", "MIT, Zalando SE", "600 + 100",
        "python -m experiments.some_fashion", "abc123", "images are dark", "intact", "2 of 10",
        "What", "stop", "1 step(s) were not finite", "--beta", "Nearest".lower(),
    ):  # fmt: skip
        assert shown in text, shown
    assert "/home/me" not in text  # pages are sent to others
    data = data_of(text)
    charts = {tuple(map(len, (s["x"] for s in c["series"]))) for c in data["charts"].values()}
    assert (2, 1) in charts  # kl of training and test in one
    assert "<h3>collapse alarm</h3>" in text
    steps = [sheets["steps"] for sheets in data["sheets"].values()]
    assert [100, 200] in steps


def test_scores_have_intervals_and_a_floor(run):
    charts = data_of(html(run))["charts"]
    (score,) = [c["series"][0] for c in charts.values() if "floor" in c["series"][0]]
    expected = {"x": [100, 200], "y": [1, 0.75], "low": [0.5] * 2, "high": [1.5] * 2}
    assert expected.items() <= score.items()
    assert score["floor"] == 0.125
    marks = [mark for chart in charts.values() for mark in chart["marks"]]
    assert {mark["x"] for mark in marks} == {42, 200}  # a fault, a finding; not what is not found


def test_an_alarm_that_is_over_is_no_alarm(tmp_path):
    run = a_run(tmp_path / "run")
    with files.open_to_append(run / "findings.jsonl") as file:
        file.write(
            '{"step": 300, "name": "collapse", "found": false, "summary": "", "advice": ""}\n'
        )
    text = html(run)
    assert "2 of 10" not in text
    assert "blur, collapse" in text or "collapse, blur" in text


def test_damage_is_shown(tmp_path):
    run = a_run(tmp_path / "run")
    (run / "checkpoints" / "200" / "state" / "data").write_bytes(bytes(99) + b"x")
    with (run / "metrics.jsonl").open("a") as file:
        file.write("{half a line\n")
    text = html(run)
    assert "state/data is damaged" in text
    assert "metrics.jsonl: 1 damaged line(s)" in text
    assert '<span class="chip alarm">damaged</span>' in text


def test_a_stage_has_curves_and_checkpoints_of_its_own(tmp_path):
    run = a_run(tmp_path / "run")
    stage = run / "encoder"
    shutil.copytree(run / "checkpoints", stage / "checkpoints")
    (stage / "checkpoints" / "100" / "state" / "data").write_bytes(b"")
    rows(stage / "metrics.jsonl", {"step": 100, "encoder/loss": 1.0})
    text = html(run)
    assert "Stage: encoder" in text
    assert "encoder/loss" in text
    assert text.count("state/data is damaged") == 1


def test_every_file_but_the_config_may_be_missing(run, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copy(run / "config.json", tmp_path / "bare")
    text = html(tmp_path / "bare")
    assert "No audit yet." in text
    assert "not recorded" in text


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "-1", "true", '"7"', "[]", "{}"]


@pytest.mark.parametrize("name", ["metrics", "scores", "findings", "faults", "starts", "profiles"])
def test_hostile_rows_are_no_markup_and_no_crash(run, tmp_path, name):
    place = tmp_path / "run"
    shutil.copytree(run, place)
    bad = [
        f'{{"step": 5, "name": {value}, "value": {value}, "{name}/x": {value}, "low": {value}, '
        f'"found": {value}, "floor": {{"value": {value}}}, "x": [{value}], "y": [{value}], '
        f'"changed": {{"--beta": {value}}}, "not_finite": {value}, "device": {value}}}'
        for value in NUMBERS
    ]
    keys = ("name", "summary", "advice", "reference", "command", "commit", "device", "axis", "hint")
    texts = dict.fromkeys(keys, HOSTILE)
    row = {"step": 6, **texts, HOSTILE: 1.0, "value": 2.0, "found": True, "x": [1], "y": [2]}
    row |= {"not_finite": [HOSTILE], "answer": HOSTILE, "changed": {"--beta": HOSTILE}}
    lines = [*bad, json.dumps(row), "[" * 9000, "\x00", '{"step": 1e5}', '{"step": -1}']
    (place / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    found = Elements(html(place)).found
    assert not any(tag == "img" and a.get("src") == "x" for tag, a in found)
    assert not any("onerror" in a for _, a in found)
    data_of(html(place))  # JSON


def test_a_hostile_config_is_no_markup_and_no_crash(run, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(run, place)
    values = json.loads((place / "config.json").read_text())
    hostile = {HOSTILE: HOSTILE, "n": 10**400, "deep": {"a": {"b": {"c": {"d": {"e": [1]}}}}}}
    values["experiment"] = HOSTILE
    values["config"] |= hostile
    values["dataset"] = {"name": HOSTILE, "classes": {HOSTILE: [5, 5]}, "notes": [HOSTILE, 7]}
    values["images"] |= {"names": [HOSTILE, {}], "shape": [HOSTILE, 10**400], "count": True}
    values["changes"][0] |= {"setting": HOSTILE, "before": hostile, "stage": HOSTILE}
    (place / "config.json").write_text(json.dumps(values))
    found = Elements(html(place)).found
    assert not any(tag == "img" and a.get("src") == "x" for tag, a in found)
    for config in ("[]", "7", "null"):
        values |= {"config": json.loads(config), "dataset": json.loads(config), "images": None}
        (place / "config.json").write_text(json.dumps(values))
        html(place)
    for text in ("", "[]", "{}", '{"experiment": 7}', "\0"):
        (place / "config.json").write_text(text)
        with pytest.raises(ConfigError):
            html(place)


@pytest.mark.parametrize("value", ["[]", '{"xy": 7}', '{"xy": [[1, "a"], [1e999, 0], 5]}', "\0"])
def test_hostile_codes_are_skipped(run, tmp_path, value):
    place = tmp_path / "run"
    shutil.copytree(run, place)
    (place / "codes.json").write_text(value)
    assert "<circle cx" not in html(place).replace('<circle cx="8" cy="8" r="6.5"', "")


def test_links_out_of_the_directory_are_not_followed(run, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(run, place)
    mine = tmp_path / "private.png"
    shutil.move(place / "samples" / "step_200.png", mine)
    (place / "samples" / "step_200.png").symlink_to(mine)
    assert [100, 200] not in [s["steps"] for s in data_of(html(place))["sheets"].values()]


def test_many_sheets_are_spread(tmp_path):
    run = a_run(tmp_path / "run")
    sheet = (run / "samples" / "step_100.png").read_bytes()
    for step in range(1, 301):
        (run / "samples" / f"step_{step}.png").write_bytes(sheet)
    steps = max((s["steps"] for s in data_of(html(run))["sheets"].values()), key=len)
    assert len(steps) == 100
    assert (steps[0], steps[-1]) == (1, 300)
    assert max(np.diff(steps)) - min(np.diff(steps)) <= 1


def test_a_page_in_training_never_stops_the_run(tmp_path, caplog):
    run = a_run(tmp_path / "run")
    write = page_in_training.RunPage(run, None).write
    write()
    assert "finished" in (run / "report.html").read_text()
    (run / "report.html").write_text("mine")
    write()
    assert (run / "report.html").read_text() == "mine"
    (run / "config.json").unlink()
    write()
    assert len([r for r in caplog.records if "could not be written" in r.message]) == 2


# Comparison.


def test_a_comparison_shows_what_differs(run, tmp_path):
    other = a_run(tmp_path / "second", steps=400, batch=64)
    rows(other / "scores.jsonl", {"step": 5, "name": "kd pixels", "n": 128, "value": 3.0})
    text = rendering.render(comparison_page.page([run, other], Embedder()))
    for shown in ("2 runs compared", "--run.steps", "400", "--run.batch", "first", "second"):
        assert shown in text, shown
    assert "--beta" not in text  # the same in both
    assert "--run.dir" not in text
    data = data_of(text)
    assert [s["linked"] for s in data["sheets"].values()] == [True, True]
    kl = max((c["series"] for c in data["charts"].values()), key=len)
    assert [(s["color"], s["dashed"]) for s in kl] == [(0, False), (0, True), (1, False), (1, True)]
    # Scores of another n have a row of their own.
    assert text.count("<td>kd pixels</td>") == 2


def test_hostile_names_of_runs_are_no_markup(run, tmp_path):
    other = tmp_path / "<img src=x onerror=hacked()>"
    shutil.copytree(run, other)
    text = rendering.render(comparison_page.page([run, other], Embedder()))
    assert not any("onerror" in a for _, a in Elements(text).found)


def test_runs_are_found_in_folders(run, tmp_path):
    assert run_page.runs_in([run]) == [run]
    for name in ("a", "b/c"):
        shutil.copytree(run, tmp_path / name)
    assert run_page.runs_in([tmp_path]) == [tmp_path / "a", tmp_path / "b" / "c"]
    shutil.copytree(run, tmp_path / "a" / "earlier")
    assert run_page.runs_in([tmp_path / "a"]) == [tmp_path / "a"]
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(ConfigError, match=r"holds no run|is no folder"):
            run_page.runs_in([tmp_path / name])
    with pytest.raises(ConfigError, match="too many"):
        run_page.runs_in([shutil.copytree(run, tmp_path / f"r{i}") for i in range(17)])


# The command.


def command(capsys, *arguments):
    try:
        report.main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code, *capsys.readouterr()
    return 0, *capsys.readouterr()


def test_the_command_writes_pages_and_replaces_nothing_else(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Path(shutil.copytree(run, tmp_path / "runs" / "a"))
    assert command(capsys, here) == (0, f"{here / 'report.html'}\n", "")
    shutil.copytree(run, tmp_path / "runs" / "b")
    assert command(capsys, "runs") == (0, f"{tmp_path / 'report.html'}\n", "")
    assert command(capsys, here, "--to", "p.html") == (0, f"{tmp_path / 'p.html'}\n", "")
    (tmp_path / "p.html").write_text("mine")
    for words in (
        [here, "--to", "p.html"],
        ["nowhere"],
        ["runs", "--judge"],
        [here, "--to", "q/r"],
        [here, "--n", "3"],
    ):
        code, out, err = command(capsys, *words)
        assert code in (1, 2)
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert (tmp_path / "p.html").read_text() == "mine"


def test_nothing_is_added_to_an_export(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export = tmp_path / "export"
    export.mkdir()
    values = json.loads((run / "config.json").read_text())
    (export / "config.json").write_text(json.dumps(values | {"export": {"step": 200}}))
    assert command(capsys, export) == (0, f"{tmp_path / 'report.html'}\n", "")
    code, _, error = command(capsys, export, "--judge")
    assert (code, "is an export" in error) == (2, True)
    assert [path.name for path in export.iterdir()] == ["config.json"]


def test_the_first_word_decides_and_jax_is_not_imported(run, tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['genjax', 'report', *sys.argv[1:]]; "
        "runpy.run_module('genjax', run_name='__main__'); sys.exit('jax' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(run), "--to", str(tmp_path / "p.html")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert rendering.is_ours(tmp_path / "p.html")
