"""Filling in and restoring by trained runs, beside what people do without a model.

    python -m benchmarks.restoration RUN... [--images 32] [--answers 4] [--to runs/restoration.json]

observes held-out images of each run's data by every task, restores them by every solver that fits
the run, and scores the answers against the images behind the observations. A row per run, task and
solver is added to the file, so that the command resumes where it was stopped; --write makes
docs/restoration.md of it. Needs scikit-image, and for LPIPS the extra [features].
"""

import argparse
import importlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from skimage import metrics, restoration

from benchmarks import restoration_page
from genjax import files
from genjax.cli.commands import Experiment
from genjax.edit import uncertainty
from genjax.errors import ConfigError
from genjax.evaluate.lpips import lpips
from genjax.run import observing, restoring
from genjax.run.config import load
from genjax.run.edit_settings import Edit
from genjax.run.editing import psnr
from genjax.run.observing import Observation
from genjax.run.restored import RestoredRun

TASKS = {
    "fill in the centre": Edit(hide="centre"),
    "fill in half of the pixels": Edit(hide="random"),
    "twice the resolution": Edit(task="super2"),
    "four times the resolution": Edit(task="super4"),
    "deblur, noise 0.02": Edit(task="deblur", noise=0.02),
    "denoise, noise 0.2": Edit(task="denoise", noise=0.2),
    "colourise": Edit(task="colourise"),
}
SIDE = 64  # of the images that LPIPS sees: smaller ones are enlarged


def main() -> None:
    """Restores and scores what is not in the results yet, then prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.restoration")
    parser.add_argument("runs", nargs="*", type=Path, help="directories of runs")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--to", type=Path, default=Path("runs/restoration.json"))
    parser.add_argument("--write", action="store_true", help="write docs/restoration.md")
    asked = parser.parse_args()
    rows = json.loads(asked.to.read_text()) if asked.to.exists() else []
    for directory in asked.runs:
        run = opened(directory)
        for row in measured(run, directory.name, asked, rows):
            rows.append(row)
            files.write_json(asked.to, rows)
    print(restoration_page.tables(rows))
    if asked.write:
        restoration_page.write(rows)


def opened(directory: Path) -> RestoredRun:
    """A run of one of the experiments."""
    name = load(directory / "config.json")["experiment"]
    module = importlib.import_module(f"experiments.{name}")
    run, _ = Experiment(name, "", module.Config(), module.build, "").open(str(directory))
    return run


def measured(
    run: RestoredRun, name: str, asked: argparse.Namespace, known: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The rows of a run that are not known, one per task and solver."""
    images = run.held_out(asked.images)
    data = f"{run.images.settings.folder or run.images.settings.name} {images.shape[1:]}"
    solvers = restoring.DENOISING if run.family.denoiser else restoring.DECODING
    mean = run.images.train.batch(0, 0, min(5000, len(run.images.train)))["image"].mean(0)
    for task, how in TASKS.items():
        if how.task == "colourise" and images.shape[3] == 1:
            continue
        seen = observing.observe(images, how)
        plain = {"mean image": lambda _: np.broadcast_to(mean, images.shape), **without(how)}
        for way in (*plain, *solvers):
            by = name if way in solvers else ""
            key = {"data": data, "task": task, "run": by, "solver": way, "n": len(images)}
            if any(key.items() <= row.items() for row in known):
                continue
            began = time.perf_counter()
            if way in plain:
                answers = np.clip(plain[way](seen), 0, 255)[:, None]
            else:
                try:
                    label = None if not run.family.classes else 0
                    answers = restoring.restore(
                        run,
                        seen,
                        asked.answers,
                        solver=way,
                        label=label if way in restoring.DECODING else None,
                    ).images
                except ConfigError as error:
                    print(f"{name}, {task}, {way}: {error}")
                    continue
            seconds = time.perf_counter() - began
            row = {**key, **scores(answers.astype(np.float32), images, seen)}
            row["seconds"] = seconds / answers[:, :, 0, 0, 0].size
            row |= {
                "experiment": run.values["experiment"],
                "step": run.step,
                "jax": jax.__version__,
            }
            yield {**row, "date": time.strftime("%Y-%m-%d")}


def scores(answers: np.ndarray, images: np.ndarray, seen: Observation) -> dict[str, Any]:
    """Means and standard errors over images, of the first answer; the mean of all, and coverage."""
    truth, one = images.astype(np.float32), answers[:, 0]
    side = images.shape[1]
    found = {
        "psnr": psnr(answers[:, :1], truth),
        "psnr_of_mean": psnr(answers.mean(1, keepdims=True), truth),
        "ssim": [
            metrics.structural_similarity(
                x, y, data_range=255, channel_axis=2, win_size=min(7, side - 1 + side % 2)
            )
            for x, y in zip(one, truth, strict=True)
        ],
        "lpips": np.asarray(lpips()(shown(one), shown(truth))),
    }
    each = {
        k: [float(np.mean(v)), float(np.std(v, ddof=1) / len(v) ** 0.5)] for k, v in found.items()
    }
    if answers.shape[1] > 1:
        unseen = None if seen.hidden is None else jnp.asarray(seen.hidden)
        band = uncertainty.coverage(
            jnp.asarray(answers.swapaxes(0, 1)), jnp.asarray(truth), 0.9, unseen
        )
        each["coverage"] = [float(band.share), float(band.high - band.low) / 4]
    return each


def shown(images: np.ndarray) -> jax.Array:
    """Images as LPIPS sees them."""
    x = jnp.asarray(images, jnp.float32) / 127.5 - 1
    shape = (len(x), max(SIDE, x.shape[1]), max(SIDE, x.shape[2]), x.shape[3])
    return jax.image.resize(x, shape, "bilinear")


def without(how: Edit) -> dict[str, Any]:
    """What people do without a model: {name: observations -> images in 0..255}."""
    if how.hide is not None:
        return {"biharmonic": biharmonic}
    if how.task in ("super2", "super4"):
        return {"bicubic": bicubic}
    if how.task == "denoise":
        return {"total variation": total_variation, "as observed": as_observed}
    if how.task == "deblur":
        return {"Wiener, unsupervised": wiener, "as observed": as_observed}
    return {"as observed": as_observed}


def as_observed(seen: Observation) -> np.ndarray:
    """The observations themselves."""
    return seen.shown.astype(np.float32)


def biharmonic(seen: Observation) -> np.ndarray:
    """The smoothest surface through what is known."""
    assert seen.hidden is not None
    hidden = seen.hidden[..., 0]
    found = [restoration.inpaint_biharmonic((y + 1) / 2, hidden, channel_axis=2) for y in seen.y]
    return 255 * np.stack(found)


def bicubic(seen: Observation) -> np.ndarray:
    """Pillow's enlargement."""
    height, width, channels = seen.operator.shape
    found = np.empty((len(seen.y), height, width, channels), np.float32)
    for i, c in np.ndindex(len(seen.y), channels):
        small = Image.fromarray(127.5 * (np.asarray(seen.y)[i, ..., c] + 1))
        found[i, ..., c] = small.resize((width, height), Image.Resampling.BICUBIC)
    return found


def total_variation(seen: Observation) -> np.ndarray:
    """Chambolle's denoising, its weight the noise itself."""
    weight = float(seen.noise[0]) / 2
    found = [
        restoration.denoise_tv_chambolle((y + 1) / 2, weight=weight, channel_axis=2) for y in seen.y
    ]
    return 255 * np.stack(found)


def wiener(seen: Observation) -> np.ndarray:
    """Wiener-Hunt deconvolution with estimated regularization, by the known blur."""
    height, width, channels = seen.operator.shape
    point = np.zeros((1, height, width, channels), np.float32)
    point[0, height // 2, width // 2] = 1
    kernel = np.asarray(seen.operator(jnp.asarray(point)))[0, ..., 0]
    found = np.empty((len(seen.y), height, width, channels), np.float32)
    for i, c in np.ndindex(len(seen.y), channels):
        y = np.asarray(seen.y)[i, ..., c].astype(np.float64)
        found[i, ..., c], _ = restoration.unsupervised_wiener(y, kernel, clip=False, rng=0)
    return 127.5 * (found + 1)


if __name__ == "__main__":
    main()
