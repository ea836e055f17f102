"""A network as scores use it: images in, features out, and what a score records of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial


@dataclass(frozen=True)
class FeatureNetwork:
    """A network from images to features, with what a score of the features must record.

    Make one by the functions of this package: `network.pixels`, `vgg16.vgg16`, ….

    Attributes:
      name: of the network, which is part of the name of a score: "frechet distance, vgg16".
      sha256: of the file of its weights; None where it has none.
      resizing: what happens to images before the network, in words.
      size: features per image.
      features: uint8 [B, H, W, C] -> float32 [B, size]; jittable. Weights that are bound by
        `jax.tree_util.Partial` become arguments of the compiled program, not constants in it.
      logits: uint8 [B, H, W, C] -> float32 [B, classes], where the network classifies.
    """

    name: str
    sha256: str | None
    resizing: str
    size: int
    features: Callable[[Array], Array]
    logits: Callable[[Array], Array] | None = None

    def __call__(
        self, batches: Iterable[np.ndarray], progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """The features of any number of images, in constant memory apart from the result.

        Args:
          batches: arrays uint8 [b, H, W, C]; those that are smaller than the first are padded to
            its size, so that one program is compiled.
          progress: called after each batch with the number of images done.

        Returns:
          float32 [n, size], in the order of the images.

        Raises:
          ValueError: where there are no images, or they are not uint8 [b, H, W, C].
        """
        return _of_batches(self.features, batches, progress)

    def all_logits(
        self, batches: Iterable[np.ndarray], progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """The logits of any number of images, in constant memory apart from the result.

        Args:
          batches: arrays uint8 [b, H, W, C], as of a call.
          progress: called after each batch with the number of images done.

        Returns:
          float32 [n, classes], in the order of the images.

        Raises:
          ValueError: where the network does not classify, where there are no images, or they are
            not uint8 [b, H, W, C].
        """
        if self.logits is None:
            raise ValueError(f"{self.name} has no logits: it does not classify")
        return _of_batches(self.logits, batches, progress)


def pixels(shape: tuple[int, int, int]) -> FeatureNetwork:
    """The pixels themselves as features.

    Args:
      shape: (H, W, C) of an image.

    Returns:
      The network "pixels"; its features are the values of the pixels in 0..1, in the order of rows,
      columns and channels.
    """
    return FeatureNetwork("pixels", None, "none", math.prod(shape), Partial(_unit_pixels))


def _unit_pixels(images: Array) -> Array:
    return images.reshape(images.shape[0], -1).astype(jnp.float32) / 255


@jax.jit
def _apply(function: Partial, images: Array) -> Array:
    return function(images)


def _of_batches(
    function: Callable[[Array], Array],
    batches: Iterable[np.ndarray],
    progress: Callable[[int], None] | None,
) -> np.ndarray:
    if not isinstance(function, Partial):
        function = Partial(function)
    rows = done = 0
    found = np.empty((0, 0), np.float32)
    ahead: tuple[int, Array] | None = None

    def settle() -> None:
        nonlocal ahead, done, found
        if ahead is None:
            return
        (count, values), ahead = ahead, None
        if not done:
            found = np.empty((count, values.shape[1]), np.float32)
        elif done + count > len(found):
            # In place where the allocator can: two copies of the result may not fit.
            found.resize((max(2 * len(found), done + count), found.shape[1]), refcheck=False)
        found[done : done + count] = np.asarray(values)[:count]
        done += count
        if progress:
            progress(done)

    for batch in batches:
        batch = np.asarray(batch)
        if batch.dtype != np.uint8 or batch.ndim != 4:
            raise ValueError(f"give images uint8 [b, H, W, C], not {batch.dtype} {batch.shape}")
        if not len(batch):
            continue
        rows = rows or len(batch)
        padding = max(0, rows - len(batch))
        padded = np.concatenate([batch, np.repeat(batch[:1], padding, 0)]) if padding else batch
        # The device computes a batch while the host makes the one after it.
        values = _apply(function, padded)
        settle()
        ahead = len(batch), values
    settle()
    if not done:
        raise ValueError("there are no images: give at least one")
    found.resize((done, found.shape[1]), refcheck=False)
    return found
