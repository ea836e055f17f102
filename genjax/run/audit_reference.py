"""The real images of audits, and what is computed of them once for any number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tqdm.auto import tqdm

from genjax.data.images import Images
from genjax.errors import ConfigError
from genjax.evaluate import copies, memorization
from genjax.evaluate.features.network import FeatureNetwork
from genjax.train.progress import hidden

MOST_HELD_OUT = 10_000
_CHUNK = 256


@dataclass(frozen=True)
class _ByIndex:
    """The images of a data set, as audits read them."""

    images: Images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self.images.source[np.asarray(rows)]["image"]


class AuditReference:
    """Training images that may have been copied, and held-out images that samples should be like.

    Args:
      training: the training images.
      test: the held-out images.
      network: of the features.
      seed: of the choice and the order of the held-out images.
      most: held-out images, at most; None for 10,000.

    Raises:
      ConfigError: where there are fewer than 3 of either.
    """

    def __init__(
        self,
        training: Images,
        test: Images,
        network: FeatureNetwork,
        *,
        seed: int = 0,
        most: int | None = None,
    ):
        self.training, self.test, self.network = training, test, network
        if min(len(training), len(test)) < 3:
            raise ConfigError(
                f"an audit compares 3 images or more: there are {len(training)} to train on and "
                f"{len(test)} held-out ones"
            )
        order = np.random.default_rng(seed).permutation(len(test))
        self._rows = order[: min(len(test), most or MOST_HELD_OUT)]

    @cached_property
    def held_out(self) -> np.ndarray:
        """Held-out images in random order, uint8 [m, H, W, C]."""
        return _ByIndex(self.test)[self._rows]

    @cached_property
    def near(self) -> memorization.Neighbours:
        """The nearest training images of the held-out images."""
        return self.neighbours(self.held_out, "held-out images")

    @cached_property
    def features(self) -> np.ndarray:
        """Features of the held-out images, [m, d]."""
        return self.features_of(self.held_out)

    @cached_property
    def attributes(self) -> dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
        """{attribute: (of the training images, of the held-out images, names)}, with 2 or more."""
        found = {}
        for name, classes in self.training.factor_classes.items():
            if name in self.test.factors and classes != self.training.classes:
                ours, theirs = self.training.factors[name], self.test.factors[name]
                found[name] = np.asarray(ours), np.asarray(theirs)[self._rows], classes
        if self.training.labelled and self.test.labelled:
            ours, theirs = _labels(self.training), _labels(self.test)
            found["class"] = ours, theirs[self._rows], self.training.classes
        return {name: each for name, each in found.items() if len(each[2]) > 1}

    def training_images(self, rows: np.ndarray) -> np.ndarray:
        """Training images by their numbers.

        Args:
          rows: numbers [n].

        Returns:
          uint8 [n, H, W, C].
        """
        return _ByIndex(self.training)[rows]

    def neighbours(self, images: np.ndarray, what: str) -> memorization.Neighbours:
        """The nearest training images, with a progress bar.

        Args:
          images: uint8 [n, H, W, C].
          what: they are, for the bar.

        Returns:
          The neighbours.
        """
        gallery = _ByIndex(self.training)
        with _bar(f"training images near {what}", 3 * len(self.training)) as advance:
            return memorization.neighbours(images, gallery, self.network, advance)

    def features_of(self, images: np.ndarray) -> np.ndarray:
        """What tells regions apart: features, or for pixels small images.

        Args:
          images: uint8 [n, H, W, C].

        Returns:
          [n, d].
        """
        if self.network.name != "pixels":
            return self.network(blocks(images))
        small = [np.asarray(copies.reduced(x, copies.COARSE)) for x in blocks(images)]
        return np.concatenate(small).reshape(len(images), -1)


def blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """Images in blocks of constant memory.

    Args:
      images: [n, ...].

    Returns:
      An iterator over [b, ...].
    """
    return (images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK))


def _labels(images: Images) -> np.ndarray:
    rows = np.arange(len(images))
    return np.concatenate([images.source[some]["label"] for some in blocks(rows)])


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with tqdm(total=total, desc=name, disable=hidden(), leave=False) as bar:
        yield lambda done: bar.update(done - bar.n) and None
