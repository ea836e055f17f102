"""Real images made into others by a trained family: variations, another class, an attribute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from genjax import keys
from genjax.edit import sdedit, translation
from genjax.errors import ConfigError
from genjax.report.grids import to_uint8
from genjax.run.editable import Denoiser
from genjax.run.edited_run import EditedRun
from genjax.run.sampling import labels
from genjax.train.progress import hidden

CHUNK = 16  # images that are altered together
ITERATIONS = 5  # of the exact inversion, per step


def vary(
    run: EditedRun,
    images: np.ndarray,
    strength: float,
    n: int = 4,
    *,
    label: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Variations of images: noised in part and denoised again.

    Args:
      run: the trained run of a diffusion or flow model.
      images: uint8 [m, H, W, C]; sketches and collages too.
      strength: in 0..1, how much is drawn anew: 0 returns the images.
      n: variations of each.
      label: the class of all of them, where the family takes one; None for none in particular.
      seed: of the noise.

    Returns:
      uint8 [m, n, H, W, C].

    Raises:
      ConfigError: where the family does not denoise, or there is no such class.
    """
    denoiser = _denoiser(run, "--strength")
    labels(run.family, 0, label)
    how = _settings(denoiser)
    if strength == 0:
        return np.repeat(images[:, None], n, 1)

    def altered(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        predict = denoiser.predict(state, _all(label, len(image)))
        x = denoiser.encode(state, image)
        return denoiser.decode(
            state,
            each,
            sdedit.sdedit(predict, each, x, strength=strength, clip=denoiser.clip, **how),
        )

    rows = np.repeat(images, n, 0)
    return _chunks(run, altered, rows, seed).reshape(len(images), n, *images.shape[1:])


def relabel(run: EditedRun, images: np.ndarray, to: int, *, label: int | None = None) -> np.ndarray:
    """Images as they would be were they of another class.

    A diffusion model inverts its sampler under the images' own class and samples from the noise
    that it finds under the other; a decoder that takes a class decodes the image's code under it.

    Args:
      run: the trained run of a family that takes classes.
      images: uint8 [m, H, W, C].
      to: the class to come to.
      label: the class of all images; None for none in particular.

    Returns:
      uint8 [m, H, W, C].

    Raises:
      ConfigError: where the family takes no classes, has not these, or cannot find the latents of
        an image.
    """
    family = run.family
    if not family.classes:
        raise ConfigError(
            "this family takes no classes, so that none can be changed: train one that does, such "
            "as `python -m experiments.ddpm_fashion --classes`, or give --toward with a decoder"
        )
    for each in (to, label):
        labels(family, 0, each)
    if (denoiser := family.denoiser) is None:
        return _decoded(run, images, to)
    how = _settings(denoiser)

    def altered(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        x = denoiser.encode(state, image)
        ours, theirs = (denoiser.predict(state, _all(k, len(image))) for k in (label, to))
        found = translation.translate(ours, theirs, x, iterations=ITERATIONS, **how)
        return denoiser.decode(state, each, found)

    return _chunks(run, altered, images, 0)


def _decoded(run: EditedRun, images: np.ndarray, to: int) -> np.ndarray:
    family = run.family
    if family.encode is None or family.generate is None:
        raise ConfigError("this family cannot find the latents of an image: --to-label needs them")
    encode, generate = family.encode, family.generate

    def altered(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        return generate(state, each, encode(state, image), _all(to, len(image)))

    return _chunks(run, altered, images, 0)


def _denoiser(run: EditedRun, flag: str) -> Denoiser:
    if run.family.denoiser is None:
        raise ConfigError(
            f"{flag} needs a family that denoises, such as ddpm_fashion or flow_cifar10: this one "
            "makes its images in one step"
        )
    return run.family.denoiser


def _settings(denoiser: Denoiser) -> dict[str, Any]:
    return {
        "schedule": denoiser.schedule,
        "target": denoiser.target,
        "steps": denoiser.steps(),
    }


def _all(label: int | None, n: int) -> jax.Array | None:
    return None if label is None else jnp.full(n, label, jnp.int32)


def _chunks(
    run: EditedRun, alter: Callable[..., jax.Array], images: np.ndarray, seed: int
) -> np.ndarray:
    """alter(state, keys [b], images [b]) -> images in 0..1, for all images by one program."""
    n, size = len(images), min(CHUNK, len(images))
    compiled, state, parts = jax.jit(alter), run.usable_state, []
    with tqdm(total=n, unit="image", disable=hidden(), leave=False) as bar:
        for first in range(0, n, size):
            rows = np.minimum(first + np.arange(size), n - 1)
            each = keys.per_example(jax.random.key(seed), size, first)
            parts.append(to_uint8(np.asarray(compiled(state, each, images[rows]))))
            bar.update(min(size, n - first))
    return np.concatenate(parts)[:n]
