"""Complete runs: resumed bit for bit on the device, exported there and opened on the CPU, and back.

Runs that are compared by bits set what a user sets for it:

    XLA_FLAGS=--xla_gpu_deterministic_ops=true

which sums in a fixed order and takes the first algorithm that fits, instead of the fastest of this
process' trials.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from experiments import vae_fashion
from genjax.cli.main import main
from tests import tiny
from tests.families import FAMILIES
from tools import measure_resume as resume
from tools.measure_resume import ROOT

pytestmark = pytest.mark.gpu

CONFIG = vae_fashion.Config(hidden=8, latent=2)


def test_a_run_in_two_processes_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch):
    flags = os.environ.get("XLA_FLAGS", "")
    monkeypatch.setenv("XLA_FLAGS", f"{flags} --xla_gpu_deterministic_ops=true")
    # Each process compiles for itself, as on another day.
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    # Dropout, convolutions, and a table of labels whose gradient is a sum over examples.
    images = resume.draw_images(tmp_path / "images")

    def train(stops):
        place = tmp_path / f"stops_{len(stops)}"
        return resume.stopped("ddpm", FAMILIES["ddpm"], images, place, stops, devices=1)

    with ThreadPoolExecutor(2) as pool:
        found = resume.compare(*pool.map(train, ([], [7])))
    assert found == dict.fromkeys(found, "")


def elsewhere(*words):
    """vae_fashion's command line in a process that has no GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.vae_fashion", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def here(monkeypatch):
    """vae_fashion's command line in this process, on the device."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["vae_fashion", *map(str, words)])
        main("vae_fashion", vae_fashion.__doc__, vae_fashion.Config(), vae_fashion.build)

    return command


def images(folder):
    return np.load(folder / "sample_1.npz")["images"].astype(int)


def test_a_run_of_the_device_is_exported_and_sampled_on_the_cpu(tmp_path, own_sets, here):
    run = tiny.trained(
        vae_fashion, CONFIG, tmp_path / "run", own_sets, steps=4, every=2, batch=8, samples=4
    )
    here("export", run, "--to", tmp_path / "export")
    here("sample", run, "--n", 5, "--seed", 1)
    elsewhere("sample", tmp_path / "export", "--n", 5, "--seed", 1, "--to", tmp_path / "cpu")
    # Of 255 levels: TF32's 5e-4 is an eighth of one.
    np.testing.assert_allclose(images(run), images(tmp_path / "cpu"), atol=1)


def test_a_run_of_the_cpu_is_sampled_and_resumed_on_the_device(tmp_path, own_sets, here):
    run = tmp_path / "run"
    flags = f"--run.dir {run} --run.batch 8 --run.samples 4 --hidden 8 --latent 2".split()
    flags += ["--data.dir", own_sets]
    elsewhere(*flags, "--run.steps", 4, "--run.every", 2)
    elsewhere("sample", run, "--n", 5, "--seed", 1, "--to", tmp_path / "cpu")
    here("sample", run, "--n", 5, "--seed", 1)
    np.testing.assert_allclose(images(run), images(tmp_path / "cpu"), atol=1)
    here(*flags, "--run.steps", 6, "--run.every", 2)
    assert (run / "checkpoints" / "6").is_dir()
