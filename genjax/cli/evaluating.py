"""The command `evaluate`: the expensive scores of a run, on held-out images, with error bars."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jax
from tqdm import tqdm

import genjax
from genjax.cli.config import ConfigError, save
from genjax.cli.directory import open_split
from genjax.cli.system import Build, Measure
from genjax.cli.trained import Trained
from genjax.data import Images
from genjax.evaluate.average import Average, average, ordered_jit

if TYPE_CHECKING:
    from genjax.cli.main import Evaluate


def evaluate(name: str, kind: type, build: Build, settings: Evaluate) -> None:
    """Scores a run, prints a table and writes evaluation.json into its directory."""
    run = Trained(name, kind, build, settings.dir, settings.best, data=settings.data)
    measure = run.system.measure
    if measure is None:
        raise ConfigError(f"{name} has no scores beyond those of metrics.jsonl")
    if settings.n < 0 or settings.seed < 0:
        raise ConfigError("--n and --seed are not negative; --n 0 takes every image")
    images = open_split(run.data, settings.split)
    n = min(settings.n or len(images), len(images))
    score = ordered_jit(measure.scores)
    began = time.monotonic()
    with tqdm(total=n, unit="image", disable=None) as bar:
        found = average(
            lambda keys, batch: score(run.state, keys, batch),
            images.evaluation_batches(min(measure.chunk, n), limit=n, seed=settings.seed),
            jax.random.key(settings.seed),
            told=lambda done: bar.update(done - bar.n),
        )
    seconds = time.monotonic() - began
    _table(found, measure, images, settings.seed)
    path = run.directory / "evaluation.json"
    values = {
        "experiment": name,
        "step": int(run.state.step),
        "checkpoint": "best" if settings.best else "latest",
        "data": images.name,
        "split": images.split,
        "n": n,
        "of": len(images),
        "seed": settings.seed,
        "scores": {
            key: {"value": a.mean, "error": a.error, "unit": measure.units[key]}
            for key, a in found.items()
        },
        "seconds": round(seconds, 1),
        "device": jax.devices()[0].device_kind,
        "genjax": genjax.__version__,
        "jax": jax.__version__,
    }
    save(path, values)
    print(path)


def _table(found: dict[str, Average], measure: Measure, images: Images, seed: int) -> None:
    width = max(map(len, found))
    for name, a in found.items():
        unit = measure.units[name]
        print(f"{name:<{width}}  {a.mean:>10.4f} ± {a.error:<8.4f} {unit}")
    n = next(iter(found.values())).n
    which = "all" if n == len(images) else f"{n:,} random ones of"
    print(f"on {which} {len(images):,} images, {images.name} {images.split}, seed {seed}")
    for name, floor in measure.alarms.items():
        if share := found[name].below(floor):
            print(
                f"warning: {name} is under {floor:g} for {share:.1%} of the images: "
                "their values rest on few samples and are pessimistic"
            )
