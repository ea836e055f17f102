"""What was trained, read back from its run directory or from an export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.cli import exporting
from genjax.cli.config import ConfigError, Data, load, parse
from genjax.cli.directory import open_split
from genjax.cli.generating import Generator
from genjax.cli.system import Build, Spec, built, fresh
from genjax.report import pictures
from genjax.train.checkpoint import Checkpoints
from genjax.train.keys import init_key
from genjax.train.state import TrainState


class Trained:
    """A system and its state.

    directory: a run's, or an export's; None for runs/ and the experiment's name. What config.json
    says of directories to write to is not heeded: everything goes where `directory` says.
    best: the checkpoint of the best score instead of the latest. data: where its images lie on
    this machine, if not where config.json says. before: as the run was before this step, counted
    from 1: its newest checkpoint below, or its start.
    """

    def __init__(
        self,
        name: str,
        kind: type,
        build: Build,
        directory: str | None,
        best: bool = False,
        *,
        data: str | None = None,
        before: int | None = None,
    ):
        self.directory = Path(directory or f"runs/{name}").absolute()
        path = self.directory / "config.json"
        self.values = load(path)
        if self.values.get("experiment") != name:
            raise ConfigError(
                f"{self.directory} is a run of {self.values.get('experiment')}, not of {name}"
            )
        self.config: Any = parse(kind, self.values.get("config"), str(path))
        self.data: Data = self.config.data
        if data is not None:
            place = "dir" if self.data.folder is None else "folder"
            self.data = dataclasses.replace(self.data, **{place: data})
        images = self.values.get("images")
        images = dict(images) if isinstance(images, dict) else {}
        images.pop("fingerprint", None)
        self.spec = parse(Spec, images, str(path))
        self.system, like = built(build, self.config, self.spec, f"{path} describes")
        self.generator = Generator(self.system)
        self.exported = exporting.is_export(self.directory)
        self.state = (
            self._export(like, best) if self.exported else self._checkpoint(like, best, before)
        )
        print(f"{self.directory.name} at step {int(self.state.step):,}")

    def _export(self, like: TrainState, best: bool) -> TrainState:
        if best:
            raise ConfigError(f"{self.directory} is an export, of one step: leave out --best")
        return jax.tree.map(jnp.asarray, exporting.state(self.directory, self.values, like))

    def _checkpoint(self, like: TrainState, best: bool, before: int | None) -> TrainState:
        if not (self.directory / "checkpoints").is_dir():
            raise ConfigError(f"{self.directory} has no checkpoint to use")
        checkpoints = Checkpoints(self.directory / "checkpoints", read_only=True)
        try:
            step = checkpoints.best() if best else None
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
            )
            state = checkpoints.restore(like, step=step, before=before)
        finally:
            checkpoints.close()
        if state is None and before is not None and self.system.before is None:
            key = init_key(jax.random.key(self.config.run.seed))
            return fresh(self.system, key)
        if state is None:
            raise ConfigError(f"{self.directory} has no checkpoint to use")
        return state

    def images(self, key: jax.Array, z: jax.Array, label: jax.Array | None = None) -> np.ndarray:
        return self.generator.images(self.state, key, z, label, progress=True)

    def held_out(self, n: int, seed: int = 0) -> np.ndarray:
        images = open_split(self.data, "test")
        return images.batch(seed, 0, min(n, len(images)))["image"]

    def picture(self, file: str, picture: np.ndarray) -> None:
        pictures.save(self.directory / file, picture)
        print(self.directory / file)

    def arrays(self, file: str, **arrays: Any) -> Path:
        """Writes an npz, whole or not at all; a link of its name is replaced, not followed."""
        path = self.directory / file
        half = path.with_suffix(".half")
        half.unlink(missing_ok=True)
        with half.open("xb") as opened:
            np.savez_compressed(opened, **arrays)
        half.replace(path)
        return path
