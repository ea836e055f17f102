"""Untrusted files are data, never code: no pickle, and nothing is written outside the run.

Images: data/test_image_folder.py; sets: data/test_foreign_sets.py; weights: train/test_weights.py;
run directories in the listing: cli/test_list_runs.py; exports: run/test_export.py.
"""

import ast
import gc
import json
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gan_fashion
from genjax.cli.main import main
from genjax.train import digests
from genjax.train.checkpoint import CheckpointError, Checkpoints
from genjax.train.state import TrainState
from tests import tiny
from tests.logged import logged_lines

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "genjax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])
# Modules whose files run as code when they are read, and ways to run text or a shell.
FORBIDDEN = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy"}
# The one reader of pickles: its unpicklers admit what arrays are made of, after the sha256 has been
# compared (evaluate/test_feature_weights.py).
UNPICKLER = ROOT / "genjax" / "evaluate" / "features" / "weights.py"
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "read_pickle", "import_module"}


def called(node: ast.Call) -> tuple[str, bool]:
    """The name of what is called, and whether it is called by a bare name."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr, False
    return getattr(node.func, "id", ""), True


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_unpickles_or_runs_text(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        allowed = {"pickle"} if path == UNPICKLER else set()
        assert not {name.split(".")[0] for name in names} & FORBIDDEN - allowed, path
        if isinstance(node, ast.Call):
            name, bare = called(node)
            assert name not in CALLS or (name == "compile" and not bare), f"{path}: {name}"
            for keyword in node.keywords:
                assert keyword.arg not in ("allow_pickle", "shell"), f"{path}: {keyword.arg}"


def test_numpy_rejects_object_arrays(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "a.npz", images=np.array([Trap()], object))
    with np.load(tmp_path / "a.npz") as archive, pytest.raises(ValueError, match="allow_pickle"):
        archive["images"]
    assert not (tmp_path / "sprung").exists()


# Run directories.


def command(monkeypatch, capsys, *arguments):
    """(exit code, lines of stderr) of gan_fashion's command line."""
    monkeypatch.setattr(sys, "argv", ["gan_fashion", *map(str, arguments)])
    capsys.readouterr()
    try:
        main("gan_fashion", gan_fashion.__doc__, gan_fashion.Config(), gan_fashion.build)
    except SystemExit as stop:
        return stop.code, capsys.readouterr().err.splitlines()
    return 0, []


@pytest.fixture(scope="module")
def trained(tmp_path_factory, own_sets):
    directory = tmp_path_factory.mktemp("trained") / "run"
    config = gan_fashion.Config(hidden=4, latent=2)
    return tiny.trained(
        gan_fashion, config, directory, own_sets, steps=2, every=2, batch=8, samples=4
    )


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_config_cannot_redirect_images_to_another_directory(
    trained, tmp_path, monkeypatch, capsys
):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copytree(trained, run)
    values = json.loads((run / "config.json").read_text())
    values["config"]["run"]["dir"] = str(elsewhere / "taken")
    (run / "config.json").write_text(json.dumps(values))
    (elsewhere / "precious").write_text("mine")
    for name in ("sample_0.npz", "sample_0.half", "sample_0.png", "interpolate_0.half"):
        (run / name).symlink_to(elsewhere / "precious")
    before = files(trained)
    assert command(monkeypatch, capsys, "sample", run, "--n", 2) == (0, [])
    assert command(monkeypatch, capsys, "interpolate", run, "--pairs", 1)[0] == 0
    assert (run / "sample_0.npz").is_file()
    assert not (run / "sample_0.npz").is_symlink()
    assert files(elsewhere) == {elsewhere / "precious": b"mine"}
    assert files(trained) == before


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"config":' * 50_000, '"' + "x" * (2 << 20) + '"', "9" * 10_000, "\0", "NaN"],
    ids=["deep list", "deep object", "huge", "long number", "zero byte", "no object"],
)
def test_an_invalid_config_file_is_reported_in_one_line(tmp_path, monkeypatch, capsys, text):
    (tmp_path / "config.json").write_text(text)
    code, output = command(monkeypatch, capsys, "sample", tmp_path)
    assert (code, len(output)) == (2, 1)
    assert len(output[0]) < 500


def harmed(values, place, value):
    *parents, last = place.split(".")
    for name in parents:
        values = values[name]
    values[last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("config.hidden", [[[1]]]),
        ("config.hidden", "\x1b[2J" * 1000),
        ("config.data", []),
        ("config.data.bad", "x\ny"),
        ("images.shape", [28]),
        ("images", None),
        ("experiment", {"a": "\x1b"}),
        ("config.more", 1),
        ("config.hidden", 0),
        ("config.latent", -1),
        ("config.latent", 10**13),
    ],
)
def test_settings_of_the_wrong_type_are_reported_in_one_line(
    trained, tmp_path, monkeypatch, capsys, place, value
):
    values = json.loads((trained / "config.json").read_text())
    harmed(values, place, value)
    (tmp_path / "config.json").write_text(json.dumps(values))
    code, output = command(monkeypatch, capsys, "sample", tmp_path)
    assert (code, len(output)) == (2, 1)
    assert output[0].isprintable()


# Checkpoints with correct digests, written by an attacker.


def state(arrays):
    return TrainState(jnp.int32(1), {"a": arrays}, {"a": ()}, {}, {})


WANTED = {"w": jnp.zeros(100)}


@pytest.fixture
def restored(tmp_path):
    def restored(arrays, harm=None):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, state(arrays), 1.0)
        checkpoints.close()
        if harm:
            folder = tmp_path / "1"
            harm(folder)
            (folder / digests.NAME).unlink()
            digests.write(folder, 1)
        reader = Checkpoints(tmp_path, read_only=True)
        try:
            with logged_lines("genjax.train.checkpoint") as lines:
                return reader.restore(state(WANTED)), lines
        finally:
            reader.close()

    return restored


@pytest.mark.parametrize(
    "arrays",
    [
        {"w": jnp.zeros(101)},
        {"w": jnp.zeros(100), "more": jnp.zeros(1)},
        {"v": jnp.zeros(100)},
    ],
    ids=["another shape", "an extra array", "another name"],
)
def test_a_checkpoint_of_other_arrays_is_rejected(restored, arrays):
    with pytest.raises(CheckpointError, match="another architecture") as raised:
        restored(arrays)
    assert "\n" not in str(raised.value)


def declared(**change):
    """Changes the metadata of the array `w` in the store."""

    def harm(folder):
        import tensorstore

        spec = {"driver": "ocdbt", "base": f"file://{folder}/state/"}
        store = tensorstore.KvStore.open(spec).result()
        about = json.loads(store.read("params.a.w/.zarray").result().value)
        store.write("params.a.w/.zarray", json.dumps({**about, **change}).encode()).result()

    return harm


def test_a_huge_declared_shape_is_rejected_before_memory_is_allocated(restored):
    with pytest.raises(CheckpointError, match="another architecture"):
        restored(WANTED, declared(shape=[10**13], fill_value=0))


def test_an_array_of_another_declared_type_is_rejected(restored):
    with pytest.raises(CheckpointError, match=r"a\.w is float64\[100\] there and float32"):
        restored(WANTED, declared(dtype="<f8"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax' threads
def test_a_checkpoint_with_wrong_array_metadata_is_skipped_with_one_line(restored):
    found, lines = restored(WANTED, declared(chunks=[10**13]))
    gc.collect()
    assert found is None
    assert len(lines) == 1
    assert "\n" not in lines[0]


def test_a_link_in_a_checkpoint_is_named(restored):
    found, lines = restored(WANTED, lambda folder: (folder / "x").symlink_to("/etc/hostname"))
    assert found is None
    assert lines == ["checkpoint 1 is skipped: x is a link"]


def test_a_handler_named_in_a_checkpoint_is_not_loaded(restored):
    def harm(folder):
        path = folder / "state" / "_CHECKPOINT_METADATA"
        values = json.loads(path.read_text())
        values["item_handlers"] = "antigravity.Handler"
        path.write_text(json.dumps(values))

    found, _ = restored(WANTED, harm)
    jax.tree.map(np.testing.assert_array_equal, found, state(WANTED))
    assert "antigravity" not in sys.modules


def test_the_reader_of_pickles_uses_none_of_its_functions_that_read():
    uses = {
        node.attr
        for node in ast.walk(ast.parse(UNPICKLER.read_text()))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "pickle"
    }
    assert uses == {"_Unpickler", "UnpicklingError"}
    classes = [
        node for node in ast.parse(UNPICKLER.read_text()).body if isinstance(node, ast.ClassDef)
    ]
    (base,) = [node for node in classes if "pickle._Unpickler" in map(ast.unparse, node.bases)]
    assert "find_class" in {getattr(node, "name", "") for node in base.body}
