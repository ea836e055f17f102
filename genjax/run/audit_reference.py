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
from genjax.evaluate import copies, memorization, nearest
from genjax.evaluate.features.network import FeatureNetwork
from genjax.train.progress import hidden

MOST_HELD_OUT = 10_000
CHUNK = 256  # images whose features are computed together
_MOST_FEATURES = 1 << 28  # numbers that are kept of the training images: 1 GiB


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
    def _training_features(self) -> np.ndarray | None:
        """Features of the training images, where keeping them pays."""
        n = len(self.training)
        if self.network.name == "pixels" or n * self.network.size > _MOST_FEATURES:
            return None
        with _bar(f"{self.network.name}, training images", n) as advance:
            return self.network(nearest.blocks(_ByIndex(self.training), CHUNK), advance)

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
            ours, theirs = self.training.labels(), self.test.labels()
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
        gallery, features = _ByIndex(self.training), self._training_features
        with _bar(f"training images near {what}", 3 * len(self.training)) as advance:
            return memorization.neighbours(
                images, gallery, self.network, advance, features=features
            )

    def features_of(self, images: np.ndarray) -> np.ndarray:
        """What tells regions apart: features, or for pixels small images.

        Args:
          images: uint8 [n, H, W, C].

        Returns:
          [n, d].
        """
        if self.network.name != "pixels":
            return self.network(nearest.blocks(images, CHUNK))
        small = [
            np.asarray(copies.reduced(x, copies.COARSE)) for x in nearest.blocks(images, CHUNK)
        ]
        return np.concatenate(small).reshape(len(images), -1)


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with tqdm(total=total, desc=name, disable=hidden(), leave=False) as bar:
        yield lambda done: bar.update(done - bar.n) and None
