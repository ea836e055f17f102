"""The commands that use a finished run, from its directory or an export alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from genjax.cli import exporting
from genjax.cli.config import ConfigError
from genjax.cli.generating import labels, latents, linear, spherical
from genjax.cli.system import Build
from genjax.cli.trained import Trained
from genjax.report import pictures

if TYPE_CHECKING:
    from genjax.cli.main import Export, Interpolate, Reconstruct, Sample


def sample(name: str, kind: type, build: Build, settings: Sample) -> None:
    """Draws samples from a run or an export and writes them as a PNG grid and an npz."""
    run = Trained(name, kind, build, settings.dir, settings.best)
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
    labelled = {} if label is None else {"labels": np.asarray(label)}
    path = run.arrays(f"sample_{settings.seed}.npz", images=images, **labelled)
    run.picture(f"sample_{settings.seed}.png", pictures.grid(images))
    print(f"{settings.n} images, uint8 {images.shape[1:]}: {path}")


def reconstruct(name: str, kind: type, build: Build, settings: Reconstruct) -> None:
    """Writes held-out images over their reconstructions as a PNG."""
    run = Trained(name, kind, build, settings.dir, settings.best, data=settings.data)
    if run.system.encode is None:
        raise ConfigError(f"{name} has no encoder: sample and interpolate are there")
    originals = run.held_out(settings.n)
    again = run.images(jax.random.key(0), run.generator.encode(run.state, originals))
    run.picture("reconstruct.png", pictures.pairs(originals, again))
    error = np.mean((again.astype(np.float32) - originals) ** 2)
    print(f"mean squared error {error / 255**2:.5f} on {len(originals)} held-out images in 0..1")


def interpolate(name: str, kind: type, build: Build, settings: Interpolate) -> None:
    """Writes walks between latents as a PNG."""
    run = Trained(name, kind, build, settings.dir, settings.best, data=settings.data)
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


def export(name: str, kind: type, build: Build, settings: Export, *, document: str) -> None:
    """Writes a run's weights as safetensors, with a model card and digests."""
    target = exporting.claim(settings.to, settings.license)
    run = Trained(name, kind, build, settings.dir, settings.best)
    if run.exported:
        raise ConfigError(f"{run.directory} is an export itself: copy it")
    exporting.write(target, run, kind(), document, settings.license)
    print(f"{target}: {', '.join(sorted(path.name for path in target.iterdir()))}")
