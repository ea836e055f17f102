"""What training leaves for the page: profiles, codes, how it was started, and the page itself."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments import vae_fashion
from genjax.evaluate.profiles import Profile
from genjax.report import rendering
from genjax.run import inside, page_in_training, records, starts
from genjax.run.settings import Config, Settings
from tests import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_sets):
    directory = tmp_path_factory.mktemp("training") / "run"
    config = vae_fashion.Config(hidden=8, latent=3)
    settings = {"steps": 4, "every": 2, "batch": 32, "samples": 4}
    with pytest.MonkeyPatch.context() as patch:
        write = page_in_training.RunPage.write
        patch.setattr(page_in_training.RunPage, "write", lambda page: seen(page) or write(page))
        return tiny.trained(vae_fashion, config, directory, own_sets, **settings)


WRITTEN = []


def seen(page):
    rows = records.rows(page.directory / "metrics.jsonl")
    WRITTEN.append([row["step"] for row in rows if "test/kl" in row])


def test_a_run_leaves_a_page_and_what_it_shows(run):
    assert WRITTEN == [[2], [2, 4], [2, 4]]  # at each evaluation, with its scores, and at the end
    assert rendering.is_ours(run / "report.html")
    text = (run / "report.html").read_text()
    assert "finished" in text
    assert "KL per dimension of the code" in text
    rows = records.rows(run / "profiles.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    assert all(row["x"] == [1, 2, 3] and len(row["y"]) == 3 for row in rows)
    metrics = records.metrics(run)["test/kl"]
    # The same posteriors, on 32 of the images that the test score is a mean over.
    assert sum(rows[-1]["y"]) == pytest.approx(metrics.values[-1], rel=0.2)
    codes = json.loads((run / "codes.json").read_text())
    assert codes["step"] == 4
    assert np.shape(codes["xy"]) == (len(codes["label"]), 2)
    assert set(codes["label"]) <= set(range(10))
    (start,) = records.rows(run / "starts.jsonl")
    assert (start["step"], start["device"]) == (0, "cpu")
    assert start["changed"]["--hidden"] == 400
    assert start["changed"]["--run.steps"] == 4000
    assert "--beta" not in start["changed"]


def test_the_defaults_of_settings_without_one_are_unknown():
    data = replace(vae_fashion.Config().data, size=(8,))
    config = Config(Settings(steps=5, batch=8, seed=3), data)
    assert starts.changed(config) == {"--run.seed": 0, "--data.size": None}
    assert starts.changed(vae_fashion.Config()) == {}


def test_a_command_shows_no_home_directory(monkeypatch):
    words = ["/opt/bin/python3", "-m", "x", "--run.dir", "/home/me/a b"]
    monkeypatch.setattr("sys.orig_argv", words)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(starts.sys.modules["__main__"], "__file__", "x.py", raising=False)
    assert starts.command() == "python -m x --run.dir '~/a b'"
    monkeypatch.setitem(starts.sys.modules, "__main__", type(starts)("__main__"))
    assert starts.command() is None  # a notebook
    assert starts.commit() is None


def test_the_commit_is_that_of_the_program(monkeypatch, tmp_path):
    main = type(starts)("__main__")
    main.__file__ = str(tmp_path / "train.py")
    monkeypatch.setitem(starts.sys.modules, "__main__", main)
    assert starts.commit() is None
    replies = {"rev-parse": "ab12", "status": ""}
    monkeypatch.setattr(starts, "_git", lambda place, *words: replies[words[0]])
    assert starts.commit() == "ab12"
    replies["status"] = " M train.py"
    assert starts.commit() == "ab12 and changes"


def test_only_vectors_are_projected(tmp_path):
    shapes = [np.zeros((4, 2, 2), "f4"), np.zeros((4, 1), "f4"), np.zeros((4, 3), "i4"), {"a": 1}]
    for codes in shapes:
        inside.write_codes(tmp_path, 1, [(codes, None)])
    inside.write_codes(tmp_path, 1, [(np.full((4, 3), np.nan, "f4"), None)])
    inside.write_codes(tmp_path, 1, [])
    assert list(tmp_path.iterdir()) == []
    many = [(np.eye(40, 5, dtype="f4"), np.arange(40))] * 20
    inside.write_codes(tmp_path, 1, many)
    values = json.loads((tmp_path / "codes.json").read_text())
    assert len(values["xy"]) == len(values["label"]) == 520
    profile = Profile("p", "t", lambda *given: given, "h")
    for step in (1, 2):
        inside.add_profile(tmp_path, step, profile, np.arange(2), np.array([0.5, np.nan]))
    assert [row["y"] for row in records.rows(tmp_path / "profiles.jsonl")] == [[0.5, None]] * 2
