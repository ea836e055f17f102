"""Exports: the same images as the run, a correct card, and no partial export."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import yaml
from safetensors import safe_open

from experiments import dcgan_fashion, vae_fashion
from genjax.cli.main import main
from genjax.cli.parsing import parse
from genjax.errors import ConfigError
from genjax.files import read_rows
from genjax.run import export as exporting
from genjax.run import model_card
from genjax.train.digests import sha256
from tests import tiny


@pytest.fixture
def command(monkeypatch, capsys):
    """(exit code, stderr) of vae_fashion's command line."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["vae_fashion", *map(str, arguments)])
        capsys.readouterr()
        try:
            main("vae_fashion", vae_fashion.__doc__, vae_fashion.Config(), vae_fashion.build)
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return command


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_sets):
    """A run of two checkpoints, trained once for all tests of this file, which do not change it."""
    directory = tmp_path_factory.mktemp("secret") / "run"
    config = vae_fashion.Config(hidden=8, latent=2)
    return tiny.trained(
        vae_fashion, config, directory, own_sets, steps=4, every=2, batch=8, samples=4
    )


@pytest.fixture
def export(run, tmp_path, command):
    folder = tmp_path / "export"
    assert command("export", run, "--to", folder, "--license", "cc-by-4.0")[0] == 0
    return folder


def test_an_export_produces_the_same_images_as_its_run(
    run, export, command, own_sets, monkeypatch, tmp_path
):
    held = {path.name for path in export.iterdir()}
    monkeypatch.chdir(tmp_path)
    for place in (run, export):
        assert command("sample", place, "--n", 5, "--seed", 1)[0] == 0
        assert command("interpolate", place, "--pairs", 1, "--data", own_sets)[0] == 0
        assert command("reconstruct", place, "--n", 3, "--data", own_sets)[0] == 0
    # An export stays as it is: what is made of it lies in the working directory.
    assert {path.name for path in export.iterdir()} == held
    ours, theirs = (np.load(place / "sample_1.npz")["images"] for place in (run, tmp_path))
    np.testing.assert_array_equal(ours, theirs)
    for file in ("interpolate_0.png", "reconstruct.png"):
        assert (run / file).read_bytes() == (tmp_path / file).read_bytes()
    code, output = command("sample", export, "--n", 5, "--seed", 1)
    assert (code, f"{tmp_path / 'sample_1.png'} is there already" in output) == (2, True)
    monkeypatch.chdir(export)
    code, output = command("sample", export, "--n", 5, "--seed", 1)
    assert (code, "which stays as it is: give --to" in output) == (2, True)


def test_results_go_where_they_are_told_to_and_replace_only_the_runs_own(
    run, tmp_path, command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(run, tmp_path / "run")
    code, output = command("sample", run, "--n", 401, "--to", "new/folder")
    assert code == 0
    folder = tmp_path / "new" / "folder"
    assert f"{folder / 'sample_0.png'} (the first 400)" in output
    assert f"401 images, uint8 (28, 28, 1): {folder / 'sample_0.npz'}" in output
    assert np.load(folder / "sample_0.npz")["images"].shape == (401, 28, 28, 1)
    assert not list(run.glob("sample_0*"))
    before = (folder / "sample_0.npz").read_bytes()
    for words in (["sample"], ["sample", "--files"]):
        code, output = command(*words, run, "--n", 3, "--to", folder)
        assert (code, output.count("\n"), "is there already: give another" in output) == (
            2,
            1,
            True,
        )
    assert (folder / "sample_0.npz").read_bytes() == before
    for n in (3, 5):  # its own it replaces
        assert command("sample", run, "--n", n)[0] == 0
        assert len(np.load(run / "sample_0.npz")["images"]) == n
        assert command("sample", run, "--n", n, "--files")[0] == 0
        assert len(list((run / "sample_0").iterdir())) == n
    (run / "sample_0" / "notes.txt").write_text("mine")
    code, output = command("sample", run, "--n", 3, "--files")
    assert (code, "holds other things" in output) == (2, True)
    (tmp_path / "file").write_text("")
    code, output = command("interpolate", run, "--to", tmp_path / "file")
    assert (code, output.count("\n"), "give another --to" in output) == (2, 1, True)
    code, output = command("sample", run, "--trajectory")
    assert (code, "leave out --trajectory" in output) == (2, True)
    code, output = command("sample", run, "--step", 3)
    assert (code, "has checkpoints of the steps 4, 2" in output) == (2, True)
    code, output = command("evaluate", run, "--step", 2, "--n", 2, "--to", "new")
    assert (code, "run at step 2" in output) == (0, True)
    found = json.loads((tmp_path / "new" / "evaluation.json").read_text())
    assert (found["step"], found["checkpoint"]) == (2, "step 2")


def test_an_export_contains_only_weights_step_and_settings(run, export):
    shown = {"samples.png": "step_4.png", "reconstructions.png": "reconstructions_4.png"}
    held = {"README.md", "config.json", exporting.WEIGHTS}
    assert {p.name for p in export.iterdir()} == held | shown.keys()
    card = (export / "README.md").read_text()
    for name, source in shown.items():
        assert (export / name).read_bytes() == (run / "samples" / source).read_bytes()
        assert f"]({name})" in card
    with safe_open(export / exporting.WEIGHTS, "numpy") as file:
        metadata = file.metadata()
        assert all(name.startswith("params.vae.") for name in file.keys())  # noqa: SIM118
    assert metadata["step"] == "4"
    assert metadata["version"] == str(exporting.VERSION)
    exported = (export / "config.json").read_text() + (export / "README.md").read_text()
    assert str(run.parent.name) not in exported  # no path of this machine is published
    assert {p.stat().st_mode & 0o777 for p in export.iterdir()} == {
        (run / "config.json").stat().st_mode & 0o777
    }


def test_the_arrays_are_loaded_in_python(export):
    import jax.numpy as jnp

    from genjax.models.autoencoder import DenseDecoder

    config, weights = exporting.load_weights(export)
    decoder = DenseDecoder(tuple(config["images"]["shape"]), (config["config"]["hidden"],))
    z = jnp.zeros((1, config["config"]["latent"]))
    assert decoder.apply(weights["params"]["vae"]["decoder"], z).shape == (1, 28, 28, 1)
    assert config["export"]["step"] == 4


def test_the_best_checkpoint_can_be_exported(run, tmp_path, command):
    assert command("export", run, "--to", tmp_path / "best", "--best")[0] == 0
    step = exporting.load_weights(tmp_path / "best")[0]["export"]["step"]
    assert step in (2, 4)
    code, output = command("sample", tmp_path / "best", "--best")
    assert (code, "leave out --best" in output) == (2, True)


def test_the_card_states_data_scores_command_and_licence(run, export):
    _, front, body = (export / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "cc-by-4.0"
    assert matter["library_name"] == "genjax"
    assert matter["datasets"] == ["fashion_mnist_6k"]
    images = json.loads((run / "config.json").read_text())["images"]
    assert images["fingerprint"] in body
    assert "6,000 images 28x28x1" in body
    last = read_rows(run / "metrics.jsonl")[-1]
    for name, value in last.items():
        assert name == "step" or f"| `{name}` | {value:.5g} | 4 |" in body
    assert f"sample {export.name} --n 16" in body
    assert "| `vae/loss` | " in body
    assert "seconds" not in body.split("## Results")[1].split("## Training")[0]


def test_the_card_has_the_error_bars_of_the_weights_that_it_is_of(run, tmp_path, command, own_sets):
    run = shutil.copytree(run, tmp_path / "run")
    assert command("evaluate", run, "--n", 4, "--data", own_sets)[0] == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    for step, has in ((4, True), (2, False)):
        target = tmp_path / f"of_{step}"
        assert command("export", run, "--to", target, "--step", step)[0] == 0
        card = (target / "README.md").read_text()
        assert ("4 random ones of the 1,000 images of split `test`, seed 0" in card) == has
        assert ("are means over 4 images with their standard error" in card) == has
        assert ("without error\n  bars" in card) == (not has)
        for name, score in evaluation["scores"].items():
            value = f"{score['value']:.5g} ± {score['error']:.2g}"
            assert (f"| `{name}` | {value} | `{score['unit']}` |" in card) == has
        yaml.safe_load(card.split("---\n", 2)[1])


def linked(path):
    path.rename(path.with_name("elsewhere.png"))
    path.symlink_to(path.with_name("elsewhere.png"))


@pytest.mark.parametrize(
    ("file", "harm", "has_image"),
    [
        ("evaluation.json", lambda path: path.write_text("[" * 9000), True),
        ("evaluation.json", lambda path: path.write_text('{"scores": 3}'), True),
        ("samples/step_4.png", lambda path: path.write_text("<script>"), False),
        ("samples/step_4.png", lambda path: path.unlink(), False),
        ("samples/step_4.png", linked, False),
    ],
)
def test_what_is_no_evaluation_or_image_is_not_exported(
    run, tmp_path, command, file, harm, has_image
):
    run = shutil.copytree(run, tmp_path / "run")
    (run / "evaluation.json").write_text("{}")
    harm(run / file)
    assert command("export", run, "--to", tmp_path / "x")[0] == 0
    card = (tmp_path / "x" / "README.md").read_text()
    assert "±" not in card
    there = (tmp_path / "x" / "samples.png").exists()
    assert ("](samples.png)" in card) == there
    assert there == has_image


def test_a_card_without_a_licence_says_so(run, tmp_path, command):
    command("export", run, "--to", tmp_path / "x")
    text = (tmp_path / "x" / "README.md").read_text()
    assert 'license: "unknown"' in text
    assert "No licence was given" in text


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        (vae_fashion, {"conv": True, "beta": 2.5, "warm_up": 7}),
        (dcgan_fashion, {"widths": (8, 4), "run": {"steps": 3, "every": 2, "seed": 9}}),
        (vae_fashion, {"data": {"folder": "my photos; rm -rf", "size": 32}, "run": {"batch": 4}}),
    ],
)
def test_the_train_command_of_the_card_reproduces_the_settings(module, changes):
    default = module.Config()
    nested = {
        key: dataclasses.replace(getattr(default, key), **value)
        if isinstance(value, dict)
        else value
        for key, value in changes.items()
    }
    config = dataclasses.replace(default, **nested)
    words = shlex.split(model_card.train_flags(config, default))
    assert parse(module.Config, words, default=default) == config


def test_an_existing_folder_is_not_overwritten(run, tmp_path, command):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in ("thesis", "thesis/a.tex", "link"):
        code, output = command("export", run, "--to", tmp_path / target)
        assert (code, output.count("\n")) == (2, 1)
        assert "there already" in output
    assert (tmp_path / "thesis" / "a.tex").read_text() == "years of work"
    assert {p.name for p in tmp_path.iterdir()} == {"thesis", "link"}


def test_a_failed_export_leaves_nothing(run, tmp_path, command, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_card, "write", lambda **_: full())
    code, output = command("export", run, "--to", tmp_path / "x")
    assert (code, output.count("\n")) == (2, 1)
    assert "No space left" in output
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("bad", ["mit\n---", "a b", "", "[x]"])
def test_an_invalid_licence_identifier_is_rejected(run, tmp_path, command, bad):
    code, output = command("export", run, "--to", tmp_path / "x", f"--license={bad}")
    assert (code, output.count("\n")) == (2, 1)
    assert not (tmp_path / "x").exists()


def rewrite(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def flip(folder):
    path = folder / exporting.WEIGHTS
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def cut(folder):
    os.truncate(folder / exporting.WEIGHTS, 1000)
    rewrite(folder, lambda v: v["export"].update(sha256=sha256(folder / exporting.WEIGHTS)))


HARM = {
    "a flipped bit": (flip, "damaged"),
    "cut short, by its maker": (cut, "damaged"),
    "another architecture": (
        lambda f: rewrite(f, lambda v: v["config"].update(hidden=9)),
        r"params.vae.decoder.params.*is F32 \[8\] there, F32 \[9\] here",
    ),
    "another experiment": (lambda f: rewrite(f, lambda v: v.update(experiment="x")), "a run of x"),
    "a later version": (
        lambda f: rewrite(f, lambda v: v["export"].update(version=2)),
        "version 2",
    ),
    "no export": (lambda f: rewrite(f, lambda v: v.pop("export")), "no export"),
    "no shape": (lambda f: rewrite(f, lambda v: v.update(images=[])), "does not fit"),
    "no weights": (lambda f: (f / exporting.WEIGHTS).unlink(), "no checkpoint"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_export_is_rejected_in_one_line(export, command, harm):
    make, reason = HARM[harm]
    make(export)
    code, output = command("sample", export, "--n", 1)
    assert (code, output.count("\n")) == (2, 1)

    assert re.search(reason, output)
    assert not list(export.glob("sample_*"))


def test_loading_a_folder_that_is_no_export_raises(tmp_path, run):
    for place in (tmp_path, run):
        with pytest.raises(ConfigError):
            exporting.load_weights(place)
