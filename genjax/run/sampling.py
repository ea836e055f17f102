"""Images out of a trained state, in chunks of one compiled size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
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

CHUNK, FEW = 64, 8  # images, and images with their trajectories, that are computed together


def labels(family: Family, n: int, label: int | None = None, first: int = 0) -> jax.Array | None:
    """Labels to generate with.

    Args:
      family: the family.
      n: how many.
      label: the class of all of them; None for every class in turn.
      first: number of the first image, where the turns start at image 0.

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
    return (first + jnp.arange(n, dtype=jnp.int32)) % family.classes


class Sampler:
    """The compiled functions of a family that make images.

    Args:
      family: the family.
    """

    def __init__(self, family: Family):
        self.family = family
        # Where there is none, `latents` raises before it is called.
        self._generate: Any = family.generate and _compiled(family.generate, "the sampler")
        self._trajectory = family.trajectory and _compiled(family.trajectory, "the sampler")
        self._encode = family.encode and _compiled(family.encode, "the encoder")
        self._invert = family.invert and _compiled(family.invert, "the sampler")
        self._observe = family.observe and _compiled(family.observe, "the observation")
        self._reconstruct = family.reconstruct and _compiled(family.reconstruct, "reconstruction")

    @property
    def reconstructs(self) -> bool:
        """Whether the family can reconstruct images without inverting a sampler."""
        return bool(self._encode or self._reconstruct)

    def drawn(
        self,
        state: TrainState,
        key: jax.Array,
        n: int,
        label: int | None = None,
        *,
        progress: bool = False,
    ) -> Iterator[np.ndarray]:
        """New images, a chunk at a time: the next is computed while the caller has the last.

        Args:
          state: the trained state.
          key: of the latents and of the sampler's own noise: image i depends on it and i alone.
          n: how many.
          label: the class of all of them; None for every class in turn.
          progress: whether to show a bar.

        Returns:
          An iterator over uint8 [m, H, W, C], m at most `CHUNK`.
        """
        family = self.family
        # Latents that the family draws by itself it draws from the first on.
        every = None if family.draw is None else family.latents(key, n)

        def generate(keys: jax.Array, rows: jax.Array) -> jax.Array:
            first, size = int(rows[0]), len(rows)
            if every is None:
                z = family.latents(key, size, first)
            else:
                z = jax.tree.map(lambda x: x[jnp.minimum(rows, n - 1)], every)
            return self._generate(state, keys, z, labels(family, size, label, first))

        return map(to_uint8, in_chunks(generate, key, n, progress))

    def trajectories(
        self, state: TrainState, key: jax.Array, n: int, label: int | None = None
    ) -> np.ndarray:
        """The first images of `drawn`, and what they were on the way from the latents.

        Args:
          state: the trained state.
          key: as for `drawn`.
          n: how many.
          label: as for `drawn`.

        Returns:
          uint8 [n, T, H, W, C].

        Raises:
          ConfigError: where the family makes its images in one step.
        """
        if self._trajectory is None:
            raise ConfigError(
                "this family makes its images in one step: no --trajectory leads there"
            )
        trajectory = self._trajectory

        def made(keys: jax.Array, rows: jax.Array) -> jax.Array:
            first, size = int(rows[0]), len(rows)
            z = self.family.latents(key, size, first)
            return trajectory(state, keys, z, labels(self.family, size, label, first))

        return all_in_chunks(made, key, n, size=FEW)

    def images(
        self,
        state: TrainState,
        key: jax.Array,
        latents: Any,
        label: jax.Array | np.ndarray | None = None,
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
        n = len(jax.tree.leaves(latents)[0])

        def generate(keys: jax.Array, rows: jax.Array) -> jax.Array:
            rows = jnp.minimum(rows, n - 1)
            z = jax.tree.map(lambda x: x[rows], latents)
            return self._generate(state, keys, z, None if label is None else label[rows])

        return all_in_chunks(generate, key, n, progress)

    def latents_of(
        self,
        state: TrainState,
        key: jax.Array,
        images: np.ndarray,
        label: np.ndarray | None = None,
    ) -> Any:
        """Latents of images: by the family's encoder, else by inverting its sampler.

        Args:
          state: the trained state.
          key: of the noise that inverting draws.
          images: uint8 [n, H, W, C].
          label: their classes [n], for an inversion in a family that takes labels.

        Returns:
          What the family's `encode` or `invert` returns.

        Raises:
          ConfigError: where the family has neither.
        """
        if self._encode is not None:
            return self._encode(state, images)
        if self._invert is None:
            there = ": sample and interpolate are there" if self.family.generate else ""
            raise ConfigError(f"this family has no encoder{there}")
        known = self._known(label)
        return self._invert(state, per_example(key, len(images)), images, known)

    def reconstructions(
        self,
        state: TrainState,
        key: jax.Array,
        images: np.ndarray,
        label: np.ndarray | None = None,
        *,
        progress: bool = False,
    ) -> np.ndarray:
        """Images as the family gives them back.

        Args:
          state: the trained state.
          key: of the noise that reconstructing draws.
          images: uint8 [n, H, W, C].
          label: their classes [n], for a family that takes labels.
          progress: whether to show a bar.

        Returns:
          uint8 [n, H, W, C].

        Raises:
          ConfigError: where the family can neither reconstruct nor encode nor invert, or takes
            labels and there are none.
        """
        n, reconstruct = len(images), self._reconstruct
        if reconstruct is None and self._encode is not None:
            known = self._known(label)
            latents = self.latents_of(state, key, images)
            return self.images(state, key, latents, known, progress=progress)

        def again(keys: jax.Array, rows: jax.Array) -> jax.Array:
            some = np.minimum(np.asarray(rows), n - 1)
            if reconstruct is not None:
                return reconstruct(state, keys, images[some])
            known = None if label is None else label[some]
            z = self.latents_of(state, key, images[some], known)
            return self._generate(state, keys, z, known if self.family.classes else None)

        return all_in_chunks(again, key, n, progress)

    def observed(self, key: jax.Array, images: np.ndarray) -> list[np.ndarray]:
        """What the family sees of images that it reconstructs with the same key.

        Args:
          key: as for `reconstructions`.
          images: uint8 [n, H, W, C].

        Returns:
          [uint8 [n, H, W, C]], or [] where it sees all of them.
        """
        if (observe := self._observe) is None:
            return []

        def shown(keys: jax.Array, rows: jax.Array) -> jax.Array:
            return observe(keys, images[np.minimum(np.asarray(rows), len(images) - 1)])

        return [all_in_chunks(shown, key, len(images))]

    def _known(self, label: np.ndarray | None) -> np.ndarray | None:
        """The labels of images that `generate` makes again; None where it takes none."""
        if self.family.classes and label is None:
            raise ConfigError("this family takes labels: give those of the images")
        return label if self.family.classes else None


def _compiled(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    return host_memory.ahead(jax.jit(function), what)


def all_in_chunks(*given: Any, **how: Any) -> np.ndarray:
    """All images of `in_chunks`.

    Args:
      *given: as for `in_chunks`.
      **how: likewise.

    Returns:
      uint8 [n, ...].
    """
    return np.concatenate([*map(to_uint8, in_chunks(*given, **how))])


def in_chunks(
    make: Callable[[jax.Array, jax.Array], jax.Array],
    key: jax.Array,
    n: int,
    progress: bool = False,
    size: int = CHUNK,
) -> Iterator[np.ndarray]:
    """Images made a chunk at a time by one program, each chunk while the caller has the last.

    Args:
      make: (keys [m], rows [m]) -> images [m, ...] in 0..1; rows may exceed n.
      key: image i depends on it and i alone.
      n: how many.
      progress: whether to show a bar.
      size: of a chunk.

    Yields:
      float [m, ...].
    """
    size = min(size, n)
    ahead: jax.Array | None = None
    with tqdm(total=n, unit="image", disable=None if progress else True) as bar:
        for first in itertools.chain(range(0, n, size), [n]):
            images, ahead = ahead, None
            if first < n:
                rows = first + jnp.arange(size)
                ahead = make(per_example(key, size, first), rows)
            if images is not None:
                found = np.asarray(images)[: n - (first - 1) // size * size]
                bar.update(len(found))
                yield found
