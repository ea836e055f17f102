"""Variations of real images by a denoiser, and what all edits by a trained family share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.diffusion.protocols import Predict
from genjax.edit import sdedit
from genjax.errors import ConfigError
from genjax.run.editable import Denoiser
from genjax.run.edited_run import EditedRun
from genjax.run.sampling import all_in_chunks, labels
from genjax.train.state import TrainState

CHUNK = 16  # images that are altered together


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
    denoiser = denoiser_of(run, "--strength")
    labels(run.family, 0, label)
    how = solver_settings(denoiser)
    if strength == 0:
        return np.repeat(images[:, None], n, 1)

    def altered(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        predict = predictor(denoiser, state, label)
        x = denoiser.encode(state, image)
        return denoiser.decode(
            state,
            each,
            sdedit.sdedit(predict, each, x, strength=strength, clip=denoiser.clip, **how),
        )

    rows = np.repeat(images, n, 0)
    return in_chunks(run, altered, rows, seed).reshape(len(images), n, *images.shape[1:])


def denoiser_of(run: EditedRun, flag: str) -> Denoiser:
    """What a diffusion or flow model offers.

    Args:
      run: the trained run.
      flag: that asks for it.

    Returns:
      The denoiser.

    Raises:
      ConfigError: where the family has none.
    """
    if run.family.denoiser is None:
        raise ConfigError(
            f"{flag} needs a family that denoises, such as ddpm_fashion or flow_cifar10: this one "
            "makes its images in one step"
        )
    return run.family.denoiser


def solver_settings(denoiser: Denoiser) -> dict[str, Any]:
    """What all functions of `edit` that denoise take beside the network.

    Args:
      denoiser: of the family.

    Returns:
      {"schedule", "target", "steps"}.
    """
    return {
        "schedule": denoiser.schedule,
        "target": denoiser.target,
        "steps": denoiser.steps(),
    }


def predictor(denoiser: Denoiser, state: TrainState, label: int | None) -> Predict:
    """The network under one class, for batches of any size.

    Args:
      denoiser: of the family.
      state: the trained state.
      label: the class; None for none in particular.

    Returns:
      A function (z [n, ...], t [n]) -> what the denoiser's target names.
    """
    return lambda z, t: denoiser.predict(state, every(label, len(z)))(z, t)


def every(label: int | None, n: int) -> jax.Array | None:
    """One class for all images.

    Args:
      label: the class; None for none.
      n: images.

    Returns:
      int32 [n], or None.
    """
    return None if label is None else jnp.full(n, label, jnp.int32)


def in_chunks(
    run: EditedRun,
    alter: Callable[..., jax.Array],
    images: np.ndarray | jax.Array,
    seed: int,
    state: Any = None,
) -> np.ndarray:
    """Images made of others, or of latents, in chunks by one program, with a progress bar.

    Args:
      run: the trained run.
      alter: (state, keys [b], rows [b, ...]) -> images [b, ...] in 0..1.
      images: the rows, [n, ...].
      seed: of the keys: image i depends on it and i alone.
      state: what `alter` takes; None for the run's.

    Returns:
      uint8 [n, ...].
    """
    n, compiled = len(images), jax.jit(alter)
    state = run.usable_state if state is None else state

    def some(each: jax.Array, rows: jax.Array) -> jax.Array:
        return compiled(state, each, images[np.minimum(np.asarray(rows), n - 1)])

    return all_in_chunks(some, jax.random.key(seed), n, True, CHUNK)
