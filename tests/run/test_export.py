"""Exports: the same images as the run, a correct card, and no partial export."""

import dataclasses
import json
import os
import re
import shlex
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


def test_an_export_produces_the_same_images_as_its_run(run, export, command, own_sets):
    for place in (run, export):
        assert command("sample", place, "--n", 5, "--seed", 1)[0] == 0
        assert command("interpolate", place, "--pairs", 1, "--data", own_sets)[0] == 0
        assert command("reconstruct", place, "--n", 3, "--data", own_sets)[0] == 0
    ours, theirs = (np.load(place / "sample_1.npz")["images"] for place in (run, export))
    np.testing.assert_array_equal(ours, theirs)
    for file in ("interpolate_0.png", "reconstruct.png"):
        assert (run / file).read_bytes() == (export / file).read_bytes()


def test_an_export_contains_only_weights_step_and_settings(run, export):
    assert {p.name for p in export.iterdir()} == {"README.md", "config.json", exporting.WEIGHTS}
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
    assert not list(export.glob("sample*"))


def test_loading_a_folder_that_is_no_export_raises(tmp_path, run):
    for place in (tmp_path, run):
        with pytest.raises(ConfigError):
            exporting.load_weights(place)
