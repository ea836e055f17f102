"""A run and an export of an earlier version: restored to the bit, sampled, resumed.

fixtures/earlier_run.zip was made by commit e97548e with jax 0.10.2:

    python -m experiments.dcgan_fashion --widths 4 4 4 --latent 4 --run.steps 4 --run.batch 8 \
        --run.samples 4 --run.every 2 --run.dispatch 1 --run.devices 1

with its export, the images of `sample --n 4 --seed 1`, and the metrics of the same run at step 6.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import dcgan_fashion
from genjax import run
from genjax.cli import list_runs
from genjax.cli.main import main
from genjax.data import ImageSpec
from genjax.files import read_rows
from genjax.train import weights
from tests.checkpointed import arrays
from tests.logged import metrics

ARCHIVE = Path(__file__).parent / "fixtures" / "earlier_run.zip"
FLAGS = "--widths 4 4 4 --latent 4 --run.batch 8 --run.samples 4 --run.every 2 --run.devices 1"
STATES = {
    2: "824e5273879f34c80f0a5163d19c8b8b4403db376a83104b12ef414da2dc0a48",
    4: "f1d4345c75d20e953478acf37e35f4b0e5ec8c2e970553b90cfc1f4ddbf16c62",
}
FAMILY = dcgan_fashion.build(
    dcgan_fashion.Config(widths=(4, 4, 4), latent=4), ImageSpec((28, 28, 1), 10, 6000)
)


@pytest.fixture
def folder(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def command(*words):
    main(
        "dcgan_fashion",
        "",
        dcgan_fashion.Config(),
        dcgan_fashion.build,
        arguments=[str(word) for word in words],
    )


def digest(state):
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        name = jax.tree_util.keystr(path) + str(array.dtype)
        found.update(name.encode() + array.tobytes())
    return found.hexdigest()


def nearly_equal(images, expected):
    # Another processor may round the network's sums otherwise, by less than one grey level.
    assert images.shape == expected.shape
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("step", STATES)
def test_checkpoints_of_an_earlier_run_restore_bit_for_bit(folder, step):
    assert digest(arrays(folder / "run", step)) == STATES[step]


def test_the_restored_state_is_that_of_its_checkpoint(folder):
    restored = run.open(folder / "run", FAMILY)
    saved = arrays(folder / "run")
    for part in ("params", "opt_state", "variables", "ema"):
        ours = jax.tree.leaves(getattr(restored.state, part))
        theirs = jax.tree.leaves(saved[part])
        assert len(ours) == len(theirs) > 0
        for ours_leaf, theirs_leaf in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(ours_leaf, theirs_leaf)


def test_an_earlier_run_and_its_export_sample_the_same_images(folder, capsys):
    expected = np.load(folder / "expected_sample_1.npz")["images"]
    for place in ("run", "export"):
        command("sample", folder / place, "--n", 4, "--seed", 1, "--to", folder / place / "x")
        nearly_equal(np.load(folder / place / "x" / "sample_1.npz")["images"], expected)
    params = run.open(folder / "run", FAMILY).state.averaged()
    tree, _ = weights.load_nested(folder / "export" / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, tree["params"], params)


def test_an_earlier_run_resumes_with_the_same_metrics(folder, own_sets, capsys):
    flags = [*FLAGS.split(), "--data.dir", own_sets, "--run.dir", folder / "run", "--run.steps", 6]
    flags += ["--run.log", 1]
    command(*flags)
    assert "resumed at step 4 of 6" in capsys.readouterr().out
    # Its rows were of one step each, and had no learning rates.
    found = [
        {name: x for name, x in row.items() if not name.endswith("/learning_rate")}
        for row in metrics(folder / "run")
    ]
    expected = read_rows(folder / "expected_metrics.jsonl")
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    assert found[:6] == expected[:6]  # those up to step 4 are kept as they were
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-4, err_msg=name)
    config = json.loads((folder / "run" / "config.json").read_text())["config"]["run"]
    assert "dispatch" not in config
    assert "scan_steps" in config


def test_an_earlier_run_is_listed_as_finished_and_intact(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        list_runs.main([str(folder / "run")])
    assert stop.value.code == 0
    assert "2 4 intact" in capsys.readouterr().out
