"""Where latent diffusion loses outlines: reconstructions and samples beside real images.

    python -m benchmarks.outlines RUN [--n 64]

prints the ratios of sharpness (variance of the Laplacian) and of power by frequency of the first
stage's reconstructions of held-out images and of the run's samples to those images, with 95 %
intervals of the sharpness; and of the samples to the reconstructions, which is the prior's share.
For runs of latent_shapes and latent_diffusion. RUN/outlines.png shows images above what they are
reconstructed to, RUN/outlines_samples.png the samples.
"""

import argparse
import importlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax import data, run
from genjax.evaluate import spectrum
from genjax.report import grids
from genjax.run.config import load, parse
from genjax.run.family import stages
from genjax.run.restored import RestoredRun

CHUNK, SHOWN = 32, 16


def main() -> None:
    """Prints a row per comparison."""
    parser = argparse.ArgumentParser("python -m benchmarks.outlines")
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=64)
    asked = parser.parse_args()
    values = load(asked.run / "config.json")
    module = importlib.import_module(f"experiments.{values['experiment']}")
    config = parse(module.Config, values["config"], f"the settings of {asked.run}")
    images = data.Dataset(config.data)
    restored = run.open(asked.run, module.build(config, images.spec), images)
    real = images.test.batch(0, 0, asked.n)["image"]
    sets = {
        "held-out images": real,
        "training images": images.train.batch(0, 0, asked.n)["image"],
        "reconstructions": reconstructed(restored, real),
        "samples": restored.sample(asked.n, seed=0),
    }
    shown = grids.pairs(real[:SHOWN], sets["reconstructions"][:SHOWN])
    grids.save(asked.run / "outlines.png", shown)
    grids.save(asked.run / "outlines_samples.png", grids.grid(sets["samples"]))
    found = {name: spectrum.frequencies(each) for name, each in sets.items()}
    centres = spectrum.ring_centres(*real.shape[1:3])
    print("                                  sharpness               1/16 to 1/4   above 1/4")
    for name in ("training images", "reconstructions", "samples"):
        print(row(name, "held-out images", found, centres))
    print(row("samples", "reconstructions", found, centres))
    error = np.mean((sets["reconstructions"] / 255 - real / 255) ** 2)
    print(f"mean squared error of reconstructions: {error:.5f} per pixel, of {asked.n} images")


def reconstructed(restored: RestoredRun, images: np.ndarray) -> np.ndarray:
    """What the first stage makes of images."""
    first, _ = next(stages(restored.family, restored.directory))
    state: Any = restored.state

    def again(some: jax.Array) -> jax.Array:
        if first.reconstruct:
            return first.reconstruct(state, jax.random.key(0), some)
        assert first.encode
        assert first.generate
        return first.generate(state, jax.random.key(0), first.encode(state, some), None)

    program = jax.jit(again)
    parts = [program(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return np.concatenate([grids.to_uint8(np.asarray(each)) for each in parts])


def row(name: str, other: str, found: dict[str, spectrum.Frequencies], centres: np.ndarray) -> str:
    """Ratios of one set of images to another; of a range of frequencies, the geometric mean."""
    a, b = found[name], found[other]
    sharp = spectrum.ratio(a.sharpness, b.sharpness, 0.05)
    bands = np.log(spectrum.ratio(a.bands, b.bands, 0.05).value)
    middle = np.exp(bands[(centres > 1 / 16) & (centres < 1 / 4)].mean())
    high = np.exp(bands[centres > 1 / 4].mean())
    interval = f"{float(sharp.value):.3f} ({float(sharp.low):.3f}..{float(sharp.high):.3f})"
    compared = f"{name} / {other}"
    return f"{compared:<33} {interval:<23} {middle:<13.3f} {high:.3f}"


if __name__ == "__main__":
    main()
