"""A person's judgement of a run: what is shown, where the key lies, what answers say."""

import json
import shutil

import numpy as np
import pytest

from genjax.cli import report
from genjax.data.fashion_mnist_6k import ARCHIVE
from genjax.errors import ConfigError
from genjax.report import embedding, grids
from genjax.run import judging, records
from tests.report.test_rendering import data_of

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def held_out():
    with np.load(ARCHIVE) as arrays:
        return {embedding.array_uri(image) for image in arrays["test_images"].reshape(-1, *SHAPE)}


@pytest.fixture
def run(tmp_path):
    """A run that has drawn 64 images, none of which is a real one."""
    run = tmp_path / "run"
    data = {"name": "fashion_mnist_6k"}
    config = {"experiment": "e", "config": {"run": {"steps": 9, "samples": 64}, "data": data}}
    config["images"] = {"shape": list(SHAPE), "classes": 10, "count": 6000, "names": []}
    run.mkdir()
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.jsonl").write_text('{"step": 7, "vae/loss": 1.0}\n')
    drawn = np.random.default_rng(0).integers(0, 256, (64, *SHAPE), "u1")
    grids.save(run / "samples" / "step_7.png", grids.grid(drawn))
    return run, drawn


def parts(page):
    """(the key, what the page holds)"""
    key = json.loads(page.with_name(f"{page.stem}.key.json").read_text())
    return key, data_of(page.read_text())


def answered(tmp_path, key, answers):
    path = tmp_path / "answers.json"
    values = {"genjax": "judgement", "id": key["id"], "mode": key["mode"], "answers": answers}
    path.write_text(json.dumps(values))
    return path


def test_real_and_drawn_images_are_mixed_and_the_key_lies_apart(run, held_out):
    run, drawn = run
    page, source = judging.write_page(run, "tell", 40)
    key, data = parts(page)
    assert (page.name, source, key["source"]) == ("judge_1.html", *["samples/step_7.png"] * 2)
    assert (len(data["images"]), key["step"]) == (40, 7)
    uris = [embedding.array_uri(image) for image in drawn]
    for uri, is_real, index in zip(data["images"], key["real"], key["index"], strict=True):
        assert uri in held_out if is_real else uri == uris[index]
    assert 8 <= sum(key["real"]) <= 32  # 40 coins
    assert len(set(data["images"])) == 40
    again = judging.write_page(run, "tell", 40)[0]
    assert again.name == "judge_2.html"  # the first stays, with its key
    assert parts(again)[0]["real"] != key["real"]


def test_answers_become_an_error_rate(run, tmp_path):
    run, _ = run
    key, _ = parts(judging.write_page(run, "tell", 40)[0])
    right = ["real" if is_real else "drawn" for is_real in key["real"]]
    lines = judging.read(run, answered(tmp_path, key, right)).splitlines()
    assert lines[0] == "error rate: 0.0% (0.0% to 8.8%), 0 of 40"
    assert lines[-1].startswith("better than guessing")
    some = ["drawn"] * 10  # the page was left early
    assert f"{sum(key['real'][:10])} of 10" in judging.read(run, answered(tmp_path, key, some))
    rows = records.rows(run / "scores.jsonl")
    assert [row["step"] for row in rows] == [7, 7]
    assert [row["value"] for row in rows] == [0, sum(key["real"][:10]) / 10]


def test_accepted_images_become_a_set(run, tmp_path):
    run, drawn = run
    np.savez(run / "sample_3.npz", images=drawn[:50])
    page, source = judging.write_page(run, "curate", 100)
    key, data = parts(page)
    assert (source, len(data["images"]), any(key["real"])) == ("sample_3.npz", 50, False)
    answers = ["accept" if i % 5 == 0 else "reject" for i in range(50)]
    given = answered(tmp_path, key, answers)
    path = run / "accepted_1.npz"
    assert judging.read(run, given) == f"10 of 50 drawn images are accepted\n{path}"
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["images"], drawn[key["index"][::5]])
    with pytest.raises(ConfigError, match="give another --to"):
        judging.read(run, given, path)
    none = answered(tmp_path, key, ["reject"] * 3)
    assert judging.read(run, none) == "0 of 3 drawn images are accepted"
    given = answered(tmp_path, key, answers)
    np.savez(run / "sample_4.npz", images=drawn[:9])  # newer, but not what was judged
    assert judging.read(run, given).startswith("10 of 50")
    np.savez(run / "sample_3.npz", images=drawn[:49])
    with pytest.raises(ConfigError, match="has changed"):
        judging.read(run, given)


def test_answers_of_a_stranger_are_refused(run, tmp_path):
    run, _ = run
    key, _ = parts(judging.write_page(run, "tell", 4)[0])
    path = tmp_path / "answers.json"
    good = {"id": key["id"], "mode": "tell", "answers": ["real"]}
    for bad in (
        {"id": "../../x"}, {"id": 7}, {"id": "0" * 16}, {"mode": "curate"}, {"mode": []},
        {"answers": ["maybe"]}, {"answers": [7]}, {"answers": []}, {"answers": "real"},
        {"answers": ["real"] * 5},
    ):  # fmt: skip
        path.write_text(json.dumps(good | bad))
        with pytest.raises(ConfigError):
            judging.read(run, path)
    for text in ("", "[]", "{", "NaN"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="cannot be read"):
            judging.read(run, path)
    assert not (run / "scores.jsonl").exists()
    for bad in (
        {"real": [1]},
        {"real": [True]},
        {"index": [-1] * 4},
        {"step": "x"},
        {"source": "../x.npz"},
    ):
        (run / "judge_1.key.json").write_text(json.dumps(key | bad))
        path.write_text(json.dumps(good))
        with pytest.raises(ConfigError, match="no key"):
            judging.read(run, path)


def test_images_that_cannot_be_used_are_named(run):
    run, drawn = run
    for values in ({"images": drawn[:, :14]}, {"other": drawn}, {"images": drawn.astype("f4")}):
        np.savez(run / "sample_0.npz", **values)
        with pytest.raises(ConfigError, match=r"sample_0\.npz"):
            judging.write_page(run, "tell")
    (run / "sample_0.npz").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=r"sample_0\.npz cannot be used"):
        judging.write_page(run, "tell")
    (run / "sample_0.npz").unlink()
    grids.save(run / "samples" / "step_8.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ConfigError, match="no sheet of 64 images 28x28x1"):
        judging.write_page(run, "tell")
    shutil.rmtree(run / "samples")
    with pytest.raises(ConfigError, match="draw some first"):
        judging.write_page(run, "tell")
    assert not list(run.glob("judge_*"))


def test_the_command(run, tmp_path, capsys):
    run, _ = run
    report.main([str(run), "--judge", "--n", "5"])
    assert capsys.readouterr().out.startswith(f"{run / 'judge_1.html'}, with images of samples/")
    key, data = parts(run / "judge_1.html")
    assert len(data["images"]) == 5
    report.main([str(run), "--judged", str(answered(tmp_path, key, ["real"] * 5))])
    assert "of 5" in capsys.readouterr().out
    for words in (["--n", "0", "--judge"], ["--judged", "nothing.json"], ["--judge", "--to", "x"]):
        with pytest.raises(SystemExit) as stop:
            report.main([str(run), *words])
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")
