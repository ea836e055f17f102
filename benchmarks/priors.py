"""Samples of the plain autoencoder by both priors of `sample`: the distance to held-out images.

    python -m benchmarks.priors [DIR] [--steps N]

trains three seeds of experiments.autoencoder_fashion in DIR (runs/priors), and prints the sliced
Wasserstein distance of 1,000 samples to the 1,000 held-out images, as root mean square per pixel in
0..1, and that of as many training images. DIR/gaussian.png and DIR/mixture.png show the first seed.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from experiments import autoencoder_fashion as experiment
from genjax import data, run
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein
from genjax.report import grids

SEEDS = 3


def main() -> None:
    """Prints a row per prior: the distance of each seed."""
    parser = argparse.ArgumentParser("python -m benchmarks.priors")
    parser.add_argument("dir", nargs="?", default="runs/priors")
    parser.add_argument("--steps", type=int, default=experiment.Config().run.steps)
    asked = parser.parse_args()
    images = data.Dataset(data.DataSettings())
    family = experiment.build(experiment.Config(), images.spec)
    settings = replace(
        experiment.Config().run, dir=asked.dir, steps=asked.steps, seeds=SEEDS, devices=1
    )
    run.train_seeds(family, images, settings, name="autoencoder_fashion")
    held_out = images.test.batch(0, 0, len(images.test))["image"] / 255
    found: dict[str, list[float]] = {"gaussian": [], "mixture": [], "training images": []}
    for seed in range(SEEDS):
        restored = run.open(Path(asked.dir) / f"seed_{seed}", family, images)
        for prior, distances in found.items():
            if prior == "training images":
                drawn = images.train.batch(seed, 0, len(held_out))["image"]
            else:
                drawn = restored.sample(len(held_out), seed, prior=prior)
                if not seed:
                    grids.save(Path(asked.dir) / f"{prior}.png", grids.grid(drawn[:64]))
            distances.append(float(sliced_wasserstein(drawn / 255, held_out, jax.random.key(0))))
    for prior, distances in found.items():
        each = " ".join(f"{distance:.4f}" for distance in distances)
        print(f"{prior:<16} {np.mean(distances):.4f} ± {np.std(distances, ddof=1):.4f}  ({each})")
    print(f"seed {SEEDS - 1}: {restored.mixture}")


if __name__ == "__main__":
    main()
