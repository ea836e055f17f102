"""Every family of models on the same images for the same training time, by the same scores.

    python -m benchmarks.families [DIR] [--minutes 3] [--seeds 3] [--data NAME] [--write]

measures how fast each family trains, trains it for as many steps as fill the minutes, and scores
its samples by VGG16's features against the held-out images. A row per run is added to
DIR/families.json (runs/families), so that the command resumes where it was stopped, and a family
that is added to FAMILIES is the only one that is trained; --only names some of them. --write makes
docs/gallery.md, table and images, of what is there, of one or several data sets.
"""

import argparse
import json
import os
import time
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import families_page
from experiments import (
    autoencoder_fashion,
    dcgan_fashion,
    ddpm_fashion,
    dit,
    edm,
    flow_cifar10,
    gan_fashion,
    meanflow,
    shortcut,
    vae_fashion,
)
from genjax import data, files, run
from genjax.models.unet_settings import UNetSettings
from genjax.report import grids
from genjax.run import model_card
from genjax.run.audit_reference import AuditReference
from genjax.run.auditing import Audit
from genjax.run.sampling import CHUNK
from genjax.run.scoring import Scorer, open_network, real_images

# The U-Net and the optimizer of the diffusion model.
SMALL = {field.name: getattr(ddpm_fashion.Config(), field.name) for field in fields(UNetSettings)}
FLOW = flow_cifar10.Config(**SMALL, flip=False, learning_rate=2e-3, warm_up=100, ema=0.999)
FAMILIES = {
    "autoencoder, mixture of codes": (autoencoder_fashion, autoencoder_fashion.Config()),
    "VAE": (vae_fashion, vae_fashion.Config()),
    "GAN, dense": (gan_fashion, gan_fashion.Config()),
    "DCGAN": (dcgan_fashion, dcgan_fashion.Config()),
    "diffusion": (ddpm_fashion, ddpm_fashion.Config()),
    "flow": (flow_cifar10, replace(FLOW, run=ddpm_fashion.Config().run)),
    "EDM": (edm, edm.Config()),
    "transformer": (dit, dit.Config()),
    "MeanFlow": (meanflow, meanflow.Config()),
    "shortcut": (shortcut, shortcut.Config()),
}
SCORES = {"kd_vgg16": "kd", "fd_vgg16": "fd", "coverage_vgg16": "coverage"}
N = 1000  # samples that are scored, and held-out images
TIMED = 40  # steps of the run that measures the speed, of which the last half counts
SHEET, SHOWN, COLUMNS = "gallery.png", 48, 8


def main() -> None:
    """Trains and scores what is not in the results yet, then prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.families")
    parser.add_argument("dir", nargs="?", type=Path, default=Path("runs/families"))
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--audited", type=int, default=N, help="samples per run that are audited")
    parser.add_argument("--data", default="fashion_mnist_6k", help="name of the data set")
    parser.add_argument("--data-dir", default=None, help="where it is prepared")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=[*FAMILIES], metavar="NAME")
    parser.add_argument("--write", action="store_true", help="write docs/gallery.md")
    asked = parser.parse_args()
    path = asked.dir / "families.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    images = data.Dataset(data.DataSettings(asked.data, dir=asked.data_dir))
    real = None
    for seed in range(asked.seeds):
        for name in asked.only:
            key = {"data": asked.data, "family": name, "seed": seed, "minutes": asked.minutes}
            if not any(key.items() <= row.items() for row in rows):
                real = real or Real(images)
                rows.append({**key, **measured(name, images, real, seed, asked)})
                files.write_json(path, rows)
    for name, mine in families_page.sections(rows).items():
        print(name, families_page.table(mine), sep="\n\n")
    if asked.write:
        known = [row for row in rows if row["family"] in FAMILIES]
        sheets = [sheet(row, images, asked) if row["seed"] == 0 else None for row in known]
        families_page.write(known, sheets, command)


def command(row: dict[str, Any]) -> str:
    """The command line that trains the family of a row for as long."""
    (experiment, config), default = FAMILIES[row["family"]], FAMILIES[row["family"]][0].Config()
    run = replace(default.run, batch=config.run.batch, minutes=row["minutes"], seed=row["seed"])
    config = replace(config, run=run, data=data.DataSettings(row["data"]))
    return f"python -m {experiment.__name__} {model_card.train_flags(config, default)}"


def place(row: dict[str, Any], folder: Path) -> Path:
    """The directory of a run."""
    name = row["family"].replace(", ", "_").replace(" ", "_")
    return folder / row["data"] / name / f"seed_{row['seed']}_{row['minutes']:g}_min"


def sheet(row: dict[str, Any], images: data.Dataset, asked: Any) -> Path | None:
    """The images of a run's row, drawn from the run where they are not there; None without it."""
    directory = place(row, asked.dir)
    path = directory / SHEET
    if not path.exists() and row["data"] == asked.data and (directory / "config.json").exists():
        how = {"steps": row["steps"], "seed": row["seed"]}
        trained = train(*FAMILIES[row["family"]], images, directory, **how)  # finished already
        grids.save(path, grids.grid(trained.sample(SHOWN, row["seed"]), COLUMNS))
    return path if path.exists() else None


class Real:
    """The real images that all runs are compared with, whose features are computed once."""

    def __init__(self, images: data.Dataset):
        shape = images.train.shape[1:]
        real = real_images(images.split, images.settings, "test")
        self.scorer = Scorer(real, N, open_network("vgg16", shape))
        self.audits = AuditReference(
            images.train, images.test, open_network("pixels", shape), most=N
        )


def measured(name: str, images: data.Dataset, real: Real, seed: int, asked: Any) -> dict[str, Any]:
    """Trains one family, scores its samples and audits them."""
    experiment, config = FAMILIES[name]
    row = {"data": asked.data, "family": name, "seed": seed, "minutes": asked.minutes}
    directory = place(row, asked.dir)
    rate = speed(experiment, config, images, directory.parent / "speed")
    steps = max(1, round(60 * asked.minutes * rate / config.run.batch))
    trained = train(experiment, config, images, directory, steps=steps, seed=seed)
    trained.sample(CHUNK, seed)  # compiles, and fits the mixture
    began = time.perf_counter()
    samples = trained.sample(N, seed)
    seconds = time.perf_counter() - began
    grids.save(directory / SHEET, grids.grid(samples[:SHOWN], COLUMNS))
    features = real.scorer.features([samples])
    scores = {name: real.scorer.score(kind, features).as_dict() for name, kind in SCORES.items()}
    for score in scores.values():
        del score["replicates"]
    audit = Audit(samples[: asked.audited], real.audits, seed=seed)
    return {
        "steps": steps,
        "parameters": sum(x.size for x in jax.tree.leaves(trained.state.params)),
        "seconds_per_1000_samples": seconds * 1000 / N,
        "scores": scores,
        # Copies first, then collapse.
        "findings": [finding.as_dict() for finding in islice(audit.findings(), 2)],
        "device": device(),
        "jax": jax.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def device() -> str:
    """What computes: an accelerator, or as many cores of the CPU as the process may use."""
    kind = jax.devices()[0].device_kind
    return kind if kind != "cpu" else f"{len(os.sched_getaffinity(0))} CPU core(s)"


def train(
    experiment: Any, config: Any, images: data.Dataset, directory: Path, **settings: Any
) -> run.RestoredRun:
    """A run of a family for some steps, resumed where it was stopped."""
    steps = settings["steps"]
    how = {"dir": str(directory), "every": max(1, steps // 4), "devices": 1}
    config = replace(config, run=replace(config.run, **how, **settings))
    family = experiment.build(config, images.spec)
    return run.train(family, images, config.run, name=experiment.__name__.rpartition(".")[2])


def speed(experiment: Any, config: Any, images: data.Dataset, directory: Path) -> float:
    """Images per second, without compilation, evaluation and saving."""
    slow = any(hasattr(config, name) for name in ("channels", "widths", "patch"))
    steps = TIMED if slow else 50 * TIMED
    train(experiment, config, images, directory, steps=steps, log=steps // 4, seed=0)
    rates = logged(directory, "images_per_second")
    return float(np.median(rates[len(rates) // 2 :]))


def logged(directory: Path, name: str) -> list[float]:
    """A number of the rows of metrics that have it."""
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [row[name] for row in rows if row.get(name) is not None]


if __name__ == "__main__":
    main()
