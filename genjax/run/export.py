"""An export: a folder of a run's weights, settings and model card, to keep, copy and publish."""

from __future__ import annotations

import copy
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

import genjax
from genjax import files
from genjax.errors import ConfigError
from genjax.run import history, model_card
from genjax.run.config import load as load_config
from genjax.run.mixture import NAME as MIXTURE
from genjax.run.mixture import Mixture
from genjax.run.mixture import save as save_mixture
from genjax.train import digests, weights
from genjax.train.state import TrainState, Tree

WEIGHTS = "model.safetensors"
VERSION = 1
MAX_IMAGE_BYTES = 64 << 20

# Settings that name this machine's folders and processes, and what an export has in their place.
_MACHINE: dict[str, dict[str, Any]] = {
    "run": {
        "dir": None,
        "init_from": None,
        "distributed": False,
        "coordinator": None,
        "processes": None,
        "process": None,
    },
    "data": {"dir": None},
}


class Command(NamedTuple):
    """How a run is used on the command line.

    Attributes:
      program: what starts its program, such as "python -m experiments.vae_fashion".
      flags: (config) -> the flags that train with these settings.
    """

    program: str
    flags: Callable[[dict[str, Any]], str]


def load_weights(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and the weights of an exported folder, for use without its family.

        config, weights = load_weights("export")
        decoder = DenseDecoder((28, 28, 1), (config["config"]["hidden"],))
        logits = decoder.apply(weights["params"]["vae"]["decoder"], z)

    Args:
      directory: the exported folder.

    Returns:
      config.json as a dict ("experiment", "config", "images": shape, classes, count, fingerprint;
      "export": step), and {"params": {player: tree}, "variables": {player: tree}} as nested dicts
      of NumPy arrays: what linen's `network.apply` takes. A player's parameters are their moving
      average where the run has one.
    """
    folder = Path(directory).absolute()
    values = load_config(folder / "config.json")
    path = _checked(folder, values)
    tree, _ = weights.load_nested(path)
    return values, {"params": tree.get("params", {}), "variables": tree.get("variables", {})}


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export's weights.

    Args:
      folder: any.

    Returns:
      True where it does.
    """
    return (folder / WEIGHTS).exists()


def state(folder: Path, values: dict[str, Any], like: TrainState) -> TrainState:
    """The state to sample with, of NumPy arrays; it has no optimizer.

    Args:
      folder: the export's.
      values: the contents of its config.json.
      like: a state with the expected shapes and types.

    Returns:
      The state.

    Raises:
      ConfigError: where the folder holds no export of this version.
    """
    tree, metadata = weights.load(_checked(folder, values), _weights(like))
    if not re.fullmatch("[0-9]{1,18}", metadata.get("step", "")):
        raise ConfigError(f"{folder / WEIGHTS} is no export of genjax: it names no step")
    params = tree["params"]
    return TrainState(
        step=int(metadata["step"]),  # type: ignore[arg-type]
        params=params,
        opt_state={},
        variables=tree["variables"],
        ema={name: params[name] for name in like.ema},
    )


def claim(to: str | os.PathLike[str], license: str) -> Path:
    """The folder to write.

    Args:
      to: its path.
      license: identifier of the weights' licence.

    Returns:
      The absolute path.

    Raises:
      ConfigError: where something is there already, or the licence is no identifier.
    """
    target = files.user_path(to)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license):
        raise ConfigError(
            f"--license {license!r} is no identifier: write, say, mit, cc-by-4.0 or unknown"
        )
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} is there already: give another --to")
    return target


def write(
    target: Path,
    directory: Path,
    values: dict[str, Any],
    state: TrainState,
    license: str,
    document: str,
    command: Command | None,
    mixture: Mixture | None = None,
    *,
    makes_images: bool = True,
    average: str | None = None,
) -> None:
    """Writes a run's export, atomically.

    Args:
      target: the folder, see `claim`.
      directory: the run's.
      values: the contents of its config.json.
      state: the trained state.
      license: identifier of the weights' licence.
      document: what the model is, for the card.
      command: how the run is used on the command line, for the card.
      mixture: what samples are drawn from, if not from N(0, I).
      makes_images: whether the family does; the card of a classifier says other things.
      average: the moving average that was chosen; None for the first that the run keeps.

    Raises:
      ConfigError: where the folder cannot be written.
    """
    half = target.parent / f".{target.name}.{secrets.token_hex(4)}.half"
    try:
        half.mkdir(parents=True)
        if mixture:
            save_mixture(half / MIXTURE, mixture, state)
        what = (half, target.name, directory, values, state, license, document, command)
        _fill(*what, makes_images, average)
        half.rename(target)  # fails where a folder with anything in it appeared meanwhile
    except OSError as error:
        raise ConfigError(f"cannot write {target} ({error.strerror}): give another --to") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _fill(
    folder: Path,
    name: str,
    directory: Path,
    values: dict[str, Any],
    state: TrainState,
    license: str,
    document: str,
    command: Command | None,
    makes_images: bool,
    average: str | None,
) -> None:
    step = int(state.step)
    metadata = {
        "format": "flax",
        "genjax": genjax.__version__,
        "version": str(VERSION),
        "experiment": values["experiment"],
        "step": str(step),
    }
    weights.save(folder / WEIGHTS, _weights(state), metadata)
    exported = {
        **{key: values[key] for key in ("experiment", "images")},
        "genjax": genjax.__version__,
        "config": _public(values["config"]),
        **history.exported(values),
        "export": {
            "version": VERSION,
            "step": step,
            "average": average,
            "sha256": digests.sha256(folder / WEIGHTS),
            "license": license,
        },
    }
    shown = {
        "samples.png": directory / "samples" / f"step_{step}.png",
        "reconstructions.png": directory / "samples" / f"reconstructions_{step}.png",
    }
    copied = [name for name, path in shown.items() if _copy_image(path, folder / name)]
    card = model_card.write(
        values=exported,
        document=document,
        target=name,
        rows=model_card.latest(directory / "metrics.jsonl", step),
        evaluation=model_card.scores(directory / "evaluation.json", values["experiment"], step),
        shown=copied,
        makes_images=makes_images,
        parameters=sum(x.size for x in jax.tree.leaves(state.averaged())),
        program=command and command.program,
        train_flags=command.flags(exported["config"]) if command else "",
    )
    files.write_text(folder / "README.md", card)
    files.write_json(folder / "config.json", exported)


def _copy_image(path: Path, target: Path) -> bool:
    """Copies a PNG of the run, which may be a stranger's, and whether there was one."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > MAX_IMAGE_BYTES:
            return False
        with path.open("rb") as file:
            content = file.read(MAX_IMAGE_BYTES)
    except OSError:
        return False
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    target.write_bytes(content)
    return True


def _weights(state: TrainState) -> dict[str, Tree]:
    return {"params": state.averaged(), "variables": state.variables}


def _public(config: dict[str, Any]) -> dict[str, Any]:
    """The settings without the names of this machine's folders and processes."""
    public = copy.deepcopy(config)
    start = public["run"].get("init_from")
    for name, value in public.items():
        if value is not None and value == start:  # whose place an experiment names once more
            public[name] = Path(value).name
    for section, settings in _MACHINE.items():
        public[section] |= {k: v for k, v in settings.items() if k in public[section]}
    if folder := public["data"].get("folder"):
        public["data"]["folder"] = Path(folder).absolute().name
    return public


def _checked(folder: Path, values: dict[str, Any]) -> Path:
    """The file of weights, once its digest is seen to be that of config.json."""
    path, about = folder / WEIGHTS, values.get("export")
    if not isinstance(about, dict):
        raise ConfigError(f"{folder} is no export: its config.json has no section of that name")
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
