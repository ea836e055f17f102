"""Scores of each class by itself: which class a model draws badly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from genjax.data.images import Batch, Images, Source
from genjax.errors import ConfigError
from genjax.evaluate.features.network import FeatureNetwork
from genjax.evaluate.score import Score
from genjax.run.scoring import RealImages, Scorer


@dataclass(frozen=True)
class _Chosen:
    """Some images of a source."""

    source: Source
    rows: np.ndarray

    def __getitem__(self, indices: np.ndarray) -> Batch:
        return self.source[self.rows[indices]]


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of the samples of a class against the real images of that class.

    Each class has a fraction of the images, so that a biased score such as the Fréchet distance is
    higher than that of all, and classes of other sizes do not compare: take the kernel distance.

    Attributes:
      real: what samples are compared with, with labels.
      labels: class numbers of the samples, int [n].
      network: from images to features.
    """

    real: RealImages
    labels: np.ndarray
    network: FeatureNetwork

    @cached_property
    def _scorers(self) -> dict[int, Scorer]:
        numbers, counts = np.unique(self.labels, return_counts=True)
        references, others = _by_class(self.real.reference), {}
        if self.real.others is not None and self.real.others.labelled:
            others = _by_class(self.real.others)
        return {
            number: Scorer(
                replace(self.real, reference=references[number], others=others.get(number)),
                int(n),
                self.network,
            )
            for number, n in zip(numbers.tolist(), counts, strict=True)
        }

    def check(self, kind: str) -> None:
        """Refuses a score for which a class has too few images.

        Args:
          kind: of the score.

        Raises:
          ConfigError: where there are too few.
        """
        for number, scorer in self._scorers.items():
            try:
                scorer.check(kind)
            except ConfigError as error:
                name = self.real.reference.classes[number]
                raise ConfigError(f"--per-class, {name}: {error}") from error

    def scores(self, kind: str, features: np.ndarray) -> list[Score]:
        """A score of each class that there are samples of.

        Args:
          kind: of the score, such as "kd".
          features: of the samples, in the order of their labels, or logits for "is".

        Returns:
          The scores, named after the class as well.
        """
        return [
            replace(made, name=f"{made.name}, {self.real.reference.classes[number]}")
            for number, scorer in self._scorers.items()
            for made in [scorer.score(kind, features[self.labels == number])]
        ]


def _by_class(images: Images) -> dict[int, Images]:
    labels, shape = images.labels(), images.shape[1:]
    rows = {number: np.flatnonzero(labels == number) for number in range(images.num_classes)}
    return {
        number: replace(images, source=_Chosen(images.source, each), shape=(len(each), *shape))
        for number, each in rows.items()
    }
