"""The command `replay`: a step that was not finite, run again from the checkpoint before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from genjax.cli.config import ConfigError
from genjax.cli.directory import open_split
from genjax.cli.faults import recorded, train_key
from genjax.cli.system import Build
from genjax.cli.trained import Trained
from genjax.train.layout import DataParallel
from genjax.train.state import Tree

if TYPE_CHECKING:
    from genjax.cli.main import Replay


def replay(name: str, kind: type, build: Build, settings: Replay) -> None:
    """Runs a step of faults.jsonl again and reports what is not finite."""
    directory = Path(settings.dir or f"runs/{name}").absolute()
    row = _row(directory, settings.step)
    run = Trained(name, kind, build, str(directory), data=settings.data, before=row["step"])
    images = open_split(run.data, "train")
    size, seed = run.config.run.batch, run.config.run.seed
    layout = DataParallel(1)
    key = train_key(jax.random.key(seed), row["rollbacks"])
    batches = images.batches(seed, int(run.state.step), size, stack=1, stop=row["step"])
    skip = row["answer"] == "skip"
    dispatch = layout.compile(run.system.game, several=False, skip=skip)
    state, start = layout.place(run.state), int(run.state.step)
    for _ in tqdm(range(start, row["step"] - 1), unit="step"):
        state, _ = dispatch(state, key, layout.feed(next(batches)))
    last = layout.compile(run.system.game, several=False) if skip else dispatch
    batch = next(batches)
    state, told = last(state, key, layout.feed(batch))
    print(f"step {row['step']:,}, on images {_few(row['images'])}:")
    for metric, value in told.items():
        print(f"  {metric:<40} {float(value[0]):.6g}")
    bad = _not_finite(state.params)
    print(f"not finite after it: {_few(bad) if bad else 'no parameter'}")


def _row(directory: Path, step: int | None) -> dict[str, Any]:
    rows = recorded(directory)
    if not rows:
        raise ConfigError(f"{directory} has no faults.jsonl: no step of it was not finite")
    if step is None:
        return rows[-1]
    for row in reversed(rows):
        if row["step"] == step:
            return row
    known = _few(sorted({row["step"] for row in rows}))
    raise ConfigError(f"--step {step} is not recorded in {directory}; there are: {known}")


def _not_finite(params: dict[str, Tree]) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(np.isfinite(leaf))
    ]


def _few(items: list[Any]) -> str:
    rest = f" and {len(items) - 8} more" if len(items) > 8 else ""
    return ", ".join(map(str, items[:8])) + rest
