"""The commands that use a finished run, from its directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.cli.config import ConfigError, load, parse
from genjax.cli.generating import Generator, labels, latents, linear, spherical
from genjax.cli.system import Build, Spec, System
from genjax.cli.train import open_split
from genjax.report import pictures
from genjax.train.checkpoint import Checkpoints
from genjax.train.game import begin
from genjax.train.state import TrainState

if TYPE_CHECKING:
    from genjax.cli.main import Interpolate, Reconstruct, Sample


def sample(name: str, kind: type, build: Build, settings: Sample) -> None:
    run = _Trained(name, kind, build, settings.dir, settings.best)
    key = jax.random.key(settings.seed)
    label = labels(run.system, settings.n)
    if settings.label is not None:
        if run.system.classes is None or not 0 <= settings.label < run.system.classes:
            known = (
                f"0 to {run.system.classes - 1}"
                if run.system.classes
                else "none: it has no classes"
            )
            raise ConfigError(f"--label {settings.label} is not a class of this run: {known}")
        label = jnp.full(settings.n, settings.label, jnp.int32)
    z = latents(run.system, key, settings.n)
    images = run.images(key, z, label)
    path = run.directory / f"sample_{settings.seed}.npz"
    if label is None:
        np.savez_compressed(path, images=images)
    else:
        np.savez_compressed(path, images=images, labels=np.asarray(label))
    run.picture(f"sample_{settings.seed}.png", pictures.grid(images))
    print(f"{settings.n} images, uint8 {images.shape[1:]}: {path}")


def reconstruct(name: str, kind: type, build: Build, settings: Reconstruct) -> None:
    run = _Trained(name, kind, build, settings.dir, settings.best)
    if run.system.encode is None:
        raise ConfigError(f"{name} has no encoder: sample and interpolate are there")
    originals = run.held_out(settings.n)
    again = run.images(jax.random.key(0), run.generator.encode(run.state, originals))
    run.picture("reconstruct.png", pictures.pairs(originals, again))
    error = np.mean((again.astype(np.float32) - originals) ** 2)
    print(f"mean squared error {error / 255**2:.5f} on {len(originals)} held-out images in 0..1")


def interpolate(name: str, kind: type, build: Build, settings: Interpolate) -> None:
    run = _Trained(name, kind, build, settings.dir, settings.best)
    key = jax.random.key(settings.seed)
    if run.system.encode is not None:
        images = run.held_out(2 * settings.pairs, settings.seed)
        ends, path = run.generator.encode(run.state, images), linear
    else:
        ends, path = latents(run.system, key, 2 * settings.pairs), spherical
    t = jnp.linspace(0, 1, settings.steps)
    rows = [path(ends[2 * i], ends[2 * i + 1], t) for i in range(settings.pairs)]
    label = labels(run.system, settings.pairs)
    if label is not None:
        label = jnp.repeat(label, settings.steps)
    images = run.images(key, jnp.concatenate(rows), label)
    run.picture(f"interpolate_{settings.seed}.png", pictures.grid(images, settings.steps))


class _Trained:
    """A run read back from its directory."""

    def __init__(self, name: str, kind: type, build: Build, directory: str | None, best: bool):
        self.directory = Path(directory or f"runs/{name}").absolute()
        values = load(self.directory / "config.json")
        if values.get("experiment") != name:
            raise ConfigError(
                f"{self.directory} is a run of {values.get('experiment')}, not of {name}"
            )
        self.config: Any = parse(kind, values.get("config"), str(self.directory / "config.json"))
        images = dict(values.get("images", {}))
        images.pop("fingerprint", None)
        self.spec = parse(Spec, images, str(self.directory / "config.json"))
        self.system = build(self.config, self.spec)
        self.generator = Generator(self.system)
        self.state = self._restore(best)

    def _restore(self, best: bool) -> TrainState:
        checkpoints = Checkpoints(self.directory / "checkpoints", read_only=True)
        step = checkpoints.best() if best else None
        like = jax.eval_shape(lambda key: _fresh(self.system, key), jax.random.key(0))
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
        state = checkpoints.restore(like, say=print, step=step)
        checkpoints.close()
        if state is None:
            raise ConfigError(f"{self.directory} has no checkpoint to use")
        print(f"{self.directory.name} at step {int(state.step):,}")
        return state

    def images(self, key: jax.Array, z: jax.Array, label: jax.Array | None = None) -> np.ndarray:
        return self.generator.images(self.state, key, z, label, progress=True)

    def held_out(self, n: int, seed: int = 0) -> np.ndarray:
        images = open_split(self.config.data, "test")
        return images.batch(seed, 0, min(n, len(images)))["image"]

    def picture(self, file: str, picture: np.ndarray) -> None:
        pictures.save(self.directory / file, picture)
        print(self.directory / file)


def _fresh(system: System, key: jax.Array) -> TrainState:
    before: Any = _fresh(system.before, key) if system.before else None
    return begin(system.game, *system.init(key, before))
