"""Default settings against those that `--suggest` prints, for the same time on several image sets.

    python -m benchmarks.suggested vae_fashion "" "--data.folder PHOTOS --data.size 32" --minutes 1

The default settings are trained for the minutes; then those suggested for as many steps are, for
the minutes as well. Time is that of the process on the cores that it may use, so that other work
on the machine takes none of it. A row per run is added to DIR/suggested.json (runs/suggested), so
that the command resumes where it was stopped.
"""

import argparse
import importlib
import json
import os
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks.families import COLUMNS, SHEET, SHOWN, device
from genjax import data, files, run
from genjax.cli.parsing import parse
from genjax.report import grids
from genjax.run import minutes, suggestions
from genjax.run.sampling import CHUNK
from genjax.run.scoring import Scorer, open_network, real_images

ARMS = ("default", "suggested")


def main() -> None:
    """Trains and scores what is not in the results yet, then prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.suggested")
    parser.add_argument("experiment", help="its name, such as vae_fashion")
    parser.add_argument("sets", nargs="+", help="flags that say which images, in quotes")
    parser.add_argument("--dir", type=Path, default=Path("runs/suggested"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, each run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--n", type=int, default=500, help="samples that are scored")
    parser.add_argument("--network", default="vgg16", help="whose features score them")
    asked = parser.parse_args()
    experiment = importlib.import_module(f"experiments.{asked.experiment}")
    path = asked.dir / "suggested.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for flags in asked.sets:
        images, scorer = data.Dataset(_parsed(experiment, flags).data), None
        for seed in range(asked.seeds):
            for arm in ARMS:
                key = {name: getattr(asked, name) for name in ("experiment", "minutes", "network")}
                key |= {"flags": flags, "seed": seed, "arm": arm}
                if not any(key.items() <= row.items() for row in rows):
                    scorer = scorer or _scorer(images, asked)
                    rows.append({**key, **measured(experiment, images, scorer, key, rows, asked)})
                    files.write_json(path, rows)
    print(table([r for r in rows if r["experiment"] == asked.experiment]))


def _parsed(experiment: Any, flags: str) -> Any:
    return parse(type(experiment.Config()), shlex.split(flags), default=experiment.Config())


def _scorer(images: data.Dataset, asked: Any) -> Scorer:
    real = real_images(images.split, images.settings, "test")
    return Scorer(real, asked.n, open_network(asked.network, images.train.shape[1:]))


def measured(
    experiment: Any,
    images: data.Dataset,
    scorer: Scorer,
    key: dict[str, Any],
    rows: list[dict[str, Any]],
    asked: Any,
) -> dict[str, Any]:
    """Trains one arm with one seed and scores its samples."""
    default, flags = experiment.Config(), f"{key['flags']} --run.minutes {key['minutes']:g}"
    same = [r for r in rows if all(r[k] == key[k] for k in key.keys() - {"seed", "arm"})]
    if key["arm"] == "suggested":
        flags += f" --run.steps {next(r['steps'] for r in same if r['arm'] == 'default')}"
        facts = suggestions.measured(images)
        found = suggestions.suggested(_parsed(experiment, flags), default, facts)
        config, flags = found.config, found.command("")
    else:
        config = _parsed(experiment, flags)
    name = "_".join(part for part in shlex.split(key["flags"]) if "--" not in part) or "default"
    place = asked.dir / asked.experiment / Path(name).name / f"{key['arm']}_{key['seed']}"
    config = replace(config, run=replace(config.run, dir=str(place), seed=key["seed"]))
    place.mkdir(parents=True, exist_ok=True)
    if steps := next((r["steps"] for r in same if r["arm"] == key["arm"]), None):
        config = replace(config, run=replace(config.run, steps=steps, every=steps, minutes=None))
        family = experiment.build(config, images.spec)
    else:
        with mock.patch("time.monotonic", _seconds):
            config, family = minutes.built(experiment.build, config, images, place, None)
        config = replace(config, run=replace(config.run, every=config.run.steps, minutes=None))
    trained = run.train(family, images, config.run, name=asked.experiment)
    samples = trained.sample(max(asked.n, CHUNK), key["seed"])[: asked.n]
    grids.save(place / SHEET, grids.grid(samples[:SHOWN], COLUMNS))
    score = scorer.score("kd", scorer.features([samples])).as_dict()
    del score["replicates"]
    about = {"device": device(), "jax": jax.__version__, "date": time.strftime("%Y-%m-%d")}
    return {"steps": config.run.steps, "given": flags.strip(), "score": score, **about}


def _seconds() -> float:
    """The process's time, as if it had its cores for itself."""
    return time.process_time() / len(os.sched_getaffinity(0))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row per set, minutes and arm."""
    lines = ["| images | settings | steps | kernel distance, a seed each | real images |"]
    lines += ["|---|---|---|---|---|"]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["flags"], row["minutes"], row["network"], row["arm"]), []).append(
            row
        )
    for (flags, many, network, arm), mine in sorted(groups.items()):
        each = "; ".join(_ends(row["score"]) for row in mine)
        cells = [f"`{flags}`" if flags else "default", f"{arm}, {many:g} minutes", mine[0]["steps"]]
        floor = mine[0]["score"]["floor"]
        cells += [f"{each} ({network})", _ends(floor) if floor else "–"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _ends(score: dict[str, float]) -> str:
    value, low, high = (np.float64(score[key]) for key in ("value", "low", "high"))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


if __name__ == "__main__":
    main()
