"""The benchmark of families: what is there is not trained again, and the page of the gallery."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks import families, families_page
from genjax.cli.parsing import parse
from genjax.data import DataSettings


def row(family, seed=0, minutes=4.0, value=0.1, data="fashion_mnist_6k"):
    score = {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 100}
    floor = {"value": 0.001, "low": -0.001, "high": 0.002, "n": 100}
    names = ("kd_vgg16", "fd_vgg16", "coverage_vgg16")
    scores = dict.fromkeys(names, score | {"floor": floor})
    found = [{"name": name, "found": False, "n": 100} for name in ("memorization", "collapse")]
    return {
        "data": data, "family": family, "seed": seed, "minutes": minutes, "steps": 10,
        "parameters": 1234, "seconds_per_1000_samples": 1.0, "device": "1 CPU core(s)",
        "jax": "0.10.2", "date": "2026-11-27", "scores": scores, "findings": found,
    }  # fmt: skip


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The command, without training: the names and seeds that would have been trained."""
    called = []

    def measured(name, images, real, seed, asked):
        called.append((name, seed))
        return {k: v for k, v in row(name, seed).items() if k not in ("data", "family", "minutes")}

    monkeypatch.setattr(families, "measured", measured)
    monkeypatch.setattr(families, "Real", lambda images: object())

    def command(*words):
        called.clear()
        monkeypatch.setattr("sys.argv", ["families", str(tmp_path), *words])
        families.main()
        return list(called)

    return command


def test_only_what_is_missing_is_trained(trained, tmp_path):
    path = tmp_path / "families.json"
    path.write_text(json.dumps([row("VAE"), row("DCGAN"), row("VAE", minutes=3.0)]))
    both = ("--minutes", "4", "--only", "VAE", "EDM")
    assert trained(*both, "--seeds", "1") == [("EDM", 0)]
    assert trained(*both, "--seeds", "1") == []
    assert trained(*both, "--seeds", "2") == [("VAE", 1), ("EDM", 1)]
    assert len(json.loads(path.read_text())) == 6


def test_every_family_has_a_command_that_leads_to_its_settings():
    for name, (experiment, config) in families.FAMILIES.items():
        program = f"python -m {experiment.__name__} "
        words = shlex.split(families.command(row(name)).removeprefix(program))
        found = parse(type(config), words, default=experiment.Config())
        assert found.data == DataSettings("fashion_mnist_6k")
        assert (found.run.minutes, found.run.batch) == (4, config.run.batch)
        assert replace(found, run=config.run, data=config.data) == config


def test_the_page_has_table_and_small_images_by_rank(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    sheet = tmp_path / "sheet.png"
    Image.fromarray(noise).save(sheet)  # 600 KB, what compresses worst
    rows = [row("VAE", value=0.3), row("EDM", value=0.1), row("VAE", 1, value=0.31)]
    rows += [row("DCGAN", minutes=1.0)]
    page = tmp_path / "gallery.md"
    families_page.write(rows, [sheet, sheet, None, None], families.command, page)
    text = page.read_text()
    assert text.index("## fashion_mnist_6k, 4 minutes") < text.index("### EDM")
    assert text.index("### EDM") < text.index("### VAE") < text.index(", 1 minutes")
    assert "### DCGAN" not in text  # no image
    assert "python -m experiments.edm --run.minutes 4.0" in text
    assert (
        "1,234 parameters, seed 0: kernel distance 0.3 [0.29, 0.31], of real images 0.001" in text
    )
    images = sorted(path.name for path in (tmp_path / "gallery").iterdir())
    assert images == ["fashion_mnist_6k_edm_4.webp", "fashion_mnist_6k_vae_4.webp"]
    assert all((tmp_path / "gallery" / name).stat().st_size <= 60 * 1024 for name in images)
    assert all(f"(gallery/{name})" in text for name in images)


def test_sections_without_results_stay_as_they_are(tmp_path):
    page = tmp_path / "gallery.md"
    first, second = [row("VAE")], [row("DCGAN", minutes=1.0), row("VAE", minutes=1.0)]
    families_page.write(first, [None], families.command, page)
    alone = page.read_text()
    families_page.write(second, [None, None], families.command, page)
    both = page.read_text()
    assert both.startswith(alone)
    assert both.count("\n## ") == 2
    for rows in (first, second):
        families_page.write(rows, [None] * len(rows), families.command, page)
        assert page.read_text() == both
