"""An export: a folder of a run's weights, settings and model card, to keep, copy and publish."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

import genjax
from genjax.cli import card
from genjax.cli.config import ConfigError, Data, Run
from genjax.cli.config import load as load_config
from genjax.train import digests, weights
from genjax.train.state import TrainState, Tree

if TYPE_CHECKING:
    from genjax.cli.trained import Trained

WEIGHTS = "model.safetensors"
VERSION = 1


def load(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and the weights of an exported folder, for use in other code.

    Returns config.json as a dict ("experiment", "config", "images": shape, classes, count,
    fingerprint; "export": step), and {"params": {player: tree}, "variables": {player: tree}} as
    nested dicts of NumPy arrays: what linen's `network.apply` takes. A player's parameters are
    their moving average where the run kept one. Raises ConfigError or WeightsError, one line.

        config, weights = load("export")
        decoder = DenseDecoder((28, 28, 1), (config["config"]["hidden"],))
        logits = decoder.apply(weights["params"]["vae"]["decoder"], z)
    """
    folder = Path(directory).absolute()
    values = load_config(folder / "config.json")
    path = _checked(folder, values)
    tree, _ = weights.load_nested(path)
    return values, {"params": tree.get("params", {}), "variables": tree.get("variables", {})}


def is_export(folder: Path) -> bool:
    """Whether a folder is an export."""
    return (folder / WEIGHTS).exists()


def state(folder: Path, values: dict[str, Any], like: TrainState) -> TrainState:
    """The state to sample with, of NumPy arrays; it has no optimizer.

    values: what config.json holds. like: a whole state with the expected shapes and types.
    """
    tree, metadata = weights.load(_checked(folder, values), _weights(like))
    if not metadata.get("step", "").isdecimal():
        raise ConfigError(f"{folder / WEIGHTS} is no export of genjax: it does not tell its step")
    params = tree["params"]
    return TrainState(
        step=int(metadata["step"]),  # type: ignore[arg-type]
        params=params,
        opt_state={},
        variables=tree["variables"],
        ema={name: params[name] for name in like.ema},
    )


def claim(to: str, licence: str) -> Path:
    """The folder to write, absolute. Raises ConfigError where something is there already."""
    target = Path(to).absolute()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", licence):
        raise ConfigError(
            f"--license {licence!r} is no identifier: write, say, mit, cc-by-4.0 or unknown"
        )
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} is there already: give another --to")
    return target


def write(target: Path, run: Trained, default: Any, document: str, licence: str) -> None:
    """Writes a run's export, whole or not at all.

    default: the experiment's default settings, document: its docstring; both for the card.
    """
    half = target.parent / f".{target.name}.{secrets.token_hex(4)}.half"
    try:
        half.mkdir(parents=True)
        _fill(half, target.name, run, default, document, licence)
        half.rename(target)  # fails where a folder with anything in it appeared meanwhile
    except OSError as error:
        raise ConfigError(f"cannot write {target} ({error.strerror}): give another --to") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _fill(folder: Path, name: str, run: Trained, default: Any, document: str, licence: str) -> None:
    step = int(run.state.step)
    metadata = {
        "format": "flax",
        "genjax": genjax.__version__,
        "version": str(VERSION),
        "experiment": run.values["experiment"],
        "step": str(step),
    }
    weights.save(folder / WEIGHTS, _weights(run.state), metadata)
    config = _public(run.config)
    values = {
        **{key: run.values[key] for key in ("experiment", "images")},
        "genjax": genjax.__version__,
        "config": dataclasses.asdict(config),
        "export": {
            "version": VERSION,
            "step": step,
            "sha256": digests.sha256(folder / WEIGHTS),
            "license": licence,
        },
    }
    told = card.write(
        values=values,
        config=config,
        default=default,
        document=document,
        target=name,
        rows=card.metrics(run.directory / "metrics.jsonl", step),
        parameters=sum(x.size for x in jax.tree.leaves(run.state.averaged())),
    )
    (folder / "README.md").write_text(told)
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")


def _weights(state: TrainState) -> dict[str, Tree]:
    return {"params": state.averaged(), "variables": state.variables}


def _public(config: Any) -> Any:
    """The settings without the names of this machine's folders and processes."""
    machine = ("dir", "distributed", "coordinator", "processes", "process")
    names = {field.name for field in dataclasses.fields(Run)}
    run = {name: getattr(Run(0, 1), name) for name in machine if name in names}
    data: Data = config.data
    folder = None if data.folder is None else Path(data.folder).absolute().name
    return dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, **run),
        data=dataclasses.replace(data, dir=None, folder=folder),
    )


def _checked(folder: Path, values: dict[str, Any]) -> Path:
    """The file of weights, once its digest is seen to be that of config.json."""
    path, about = folder / WEIGHTS, values.get("export")
    if not isinstance(about, dict):
        raise ConfigError(f"{folder} is no export: its config.json tells of none")
    if about.get("version") != VERSION:
        raise ConfigError(
            f"{folder} is an export of version {about.get('version')!r}, this genjax reads"
            f" {VERSION}: use the genjax that wrote it ({values.get('genjax')!r})"
        )
    if not path.is_file():
        raise ConfigError(f"{folder} is no export: it has no {WEIGHTS}")
    if digests.sha256(path) != about.get("sha256"):
        raise ConfigError(f"{path} is damaged: export it again, or fetch it again")
    return path
