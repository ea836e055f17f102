"""Images out of a trained state, in chunks of one compiled size; paths between latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from genjax.errors import ConfigError
from genjax.keys import per_example
from genjax.report.grids import to_uint8
from genjax.run.family import Family
from genjax.train import host_memory
from genjax.train.state import TrainState

CHUNK = 64


def labels(family: Family, n: int, label: int | None = None) -> jax.Array | None:
    """Labels to generate with.

    Args:
      family: the family.
      n: how many.
      label: the class of all of them; None for every class in turn.

    Returns:
      int32 [n], or None where the family takes no labels.

    Raises:
      ConfigError: where the family has no such class.
    """
    if label is not None and not 0 <= label < (family.classes or 0):
        known = f"0 to {family.classes - 1}" if family.classes else "none: it has no classes"
        raise ConfigError(f"--label {label} is not a class of this run: {known}")
    if family.classes is None:
        return None
    if label is not None:
        return jnp.full(n, label, jnp.int32)
    return jnp.arange(n, dtype=jnp.int32) % family.classes


class Sampler:
    """The compiled functions of a family that make images.

    Args:
      family: the family.
    """

    def __init__(self, family: Family):
        self.family = family
        self._generate = _compiled(family.generate, "the sampler")
        self._encode = family.encode and _compiled(family.encode, "the encoder")
        self._reconstruct = family.reconstruct and _compiled(family.reconstruct, "reconstruction")

    @property
    def reconstructs(self) -> bool:
        """Whether the family can reconstruct images."""
        return bool(self._encode or self._reconstruct)

    def images(
        self,
        state: TrainState,
        key: jax.Array,
        latents: Any,
        label: jax.Array | None = None,
        *,
        progress: bool = False,
    ) -> np.ndarray:
        """Images from latents.

        Args:
          state: the trained state.
          key: of the sampler's own noise, which is drawn per image.
          latents: [n, ...], or a tree of such.
          label: [n], or None.
          progress: whether to show a bar.

        Returns:
          uint8 [n, H, W, C].
        """

        def generate(keys: jax.Array, rows: jax.Array) -> jax.Array:
            z = jax.tree.map(lambda x: x[rows], latents)
            return self._generate(state, keys, z, None if label is None else label[rows])

        return _in_chunks(generate, key, len(jax.tree.leaves(latents)[0]), progress)

    def encode(self, state: TrainState, images: np.ndarray) -> Any:
        """Latents of images.

        Args:
          state: the trained state.
          images: uint8 [n, H, W, C].

        Returns:
          What the family's `encode` returns.

        Raises:
          ConfigError: where the family has no encoder.
        """
        if self._encode is None:
            raise ConfigError("this family has no encoder: sample and interpolate are there")
        return self._encode(state, images)

    def reconstructions(
        self, state: TrainState, key: jax.Array, images: np.ndarray, *, progress: bool = False
    ) -> np.ndarray:
        """Images as the family gives them back.

        Args:
          state: the trained state.
          key: of the noise that reconstructing draws.
          images: uint8 [n, H, W, C].
          progress: whether to show a bar.

        Returns:
          uint8 [n, H, W, C].

        Raises:
          ConfigError: where the family can neither reconstruct nor encode.
        """
        if self._reconstruct is None:
            return self.images(state, key, self.encode(state, images), progress=progress)
        reconstruct = self._reconstruct

        def again(keys: jax.Array, rows: jax.Array) -> jax.Array:
            return reconstruct(state, keys, images[np.asarray(rows)])

        return _in_chunks(again, key, len(images), progress)


def _compiled(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    return host_memory.ahead(jax.jit(function), what)


def _in_chunks(make: Any, key: jax.Array, n: int, progress: bool) -> np.ndarray:
    """make(keys [chunk], rows [chunk]) -> images in 0..1, for n rows by one compiled program."""
    keys = per_example(key, n)
    chunk = min(CHUNK, n)
    parts = []
    with tqdm(total=n, unit="image", disable=None if progress else True) as bar:
        for start in range(0, n, chunk):
            rows = jnp.minimum(jnp.arange(start, start + chunk), n - 1)
            parts.append(to_uint8(np.asarray(make(keys[rows], rows))))
            bar.update(min(chunk, n - start))
    return np.concatenate(parts)[:n]


def spherical(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    r"""Points on the great arc between two latents.

    Normal noise lies near a sphere: the straight line between two noises passes through its empty
    inside, where no network was trained.

    $$
    \frac{\sin((1 - t)\,\Omega)\,z_0 + \sin(t\,\Omega)\,z_1}{\sin\Omega},\quad
    \cos\Omega = \frac{\langle z_0, z_1\rangle}{\lVert z_0\rVert\,\lVert z_1\rVert}
    $$

    Args:
      start: [...].
      end: [...].
      t: [n], in 0..1.

    Returns:
      [n, ...].

    References:
      Shoemake, "Animating Rotation with Quaternion Curves" (SIGGRAPH 1985).
      White, "Sampling Generative Networks" (2016), arXiv:1609.04468, section 2.1.
    """
    cosine = jnp.vdot(start, end) / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    t = t.reshape(-1, *[1] * start.ndim)
    near = jnp.sin(angle) < 1e-4  # parallel: the arc is a line
    weights = [
        jnp.where(near, w, jnp.sin(w * angle) / jnp.where(near, 1, jnp.sin(angle)))
        for w in (1 - t, t)
    ]
    return weights[0] * start[None] + weights[1] * end[None]


def linear(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Points on the straight line between two latents.

    Args:
      start: [...].
      end: [...].
      t: [n], in 0..1.

    Returns:
      [n, ...].
    """
    t = t.reshape(-1, *[1] * start.ndim)
    return (1 - t) * start[None] + t * end[None]
