"""The benchmarks at tiny settings: twins agree, timings take turns, the page is written."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


def command(*arguments):
    # One device, as in a real run: the simulated ones of the other tests would be pinned to cores.
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PJRT_NPROC")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "results.json"
    page = command(
        *("vae-data", "feeding-28", "--rounds", "2", "--seconds", "0.01"),
        *("--ways", "eager", "--json", str(path)),
    )
    return json.loads(path.read_text()), page


def test_a_training_case_times_equal_contenders_in_turns(run):
    case = next(c for c in run[0]["cases"] if c["name"] == "vae-data")
    assert set(case["contenders"]) == {"genjax, 50 steps per dispatch", "torch eager"}
    assert case["same_parameters"]
    # One multiply-add for each weight and example: forward, and twice in the gradient but for the
    # first layer, whose input has none.
    weights = 784 * 400 + 400 * 40 + 20 * 400 + 400 * 784
    products = 2 * 128 * (3 * weights - 784 * 400)
    for counted in case["flops"].values():
        assert counted["products"] == products
    # Sums of some thousand float32 terms.
    assert case["differences"]["torch eager"] < 1e-5
    for measured in case["contenders"].values():
        assert len(measured["times"]) == 2
        assert min(measured["times"]) > 0
        assert measured["mib"] > 0
    ratio = case["ratios"]["genjax, 50 steps per dispatch"]["torch eager"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]


def test_the_page_has_the_tables_of_what_was_run(run):
    results, page = run
    assert results["environment"]["cpu"] in page
    for case in results["cases"]:
        assert case["title"] in page
        assert all(f"| {name} |" in page for name in case["contenders"])


def test_an_unknown_part_is_rejected_in_one_line():
    with pytest.raises(AssertionError, match="no part 'nonsense'"):
        command("nonsense")


def twins():
    from benchmarks import cases

    return {
        "conv-vae": cases.ConvVae((8, 8, 3), (8, 12), 5),
        "dcgan": cases.Dcgan((12, 12, 3), (12, 8, 6)),
        "unet": cases.UNet((8, 8, 3), 8, (1, 2), (4,), head_features=8),
        "lucidrains": cases.LucidUNet((8, 8, 3), 8, (1, 2)),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("conv-vae", "dcgan"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("unet", "lucidrains")),
    ],
)
def test_the_pytorch_twin_computes_the_same(name, tmp_path):
    package = {"unet": "diffusers", "lucidrains": "denoising_diffusion_pytorch"}.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    from benchmarks import compare, torch_training
    from benchmarks.cases import GENJAX, WAYS, Case
    from benchmarks.jax_training import Training

    case = Case(name, name, twins()[name], 4, ())
    ours, theirs = Training(case, GENJAX), torch_training.Training(case, WAYS[0])
    assert ours.parameters == theirs.parameters
    expected = ours.values(tmp_path / "exchange.npz")
    found = theirs.values(tmp_path / "exchange.npz")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert np.isfinite(value)
        assert value > 0
        # float32 through some fifty layers
        assert compare.relative_difference(value, found[key]) < 1e-4, key
