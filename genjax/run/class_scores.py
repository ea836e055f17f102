"""Scores of each class by itself: which class a model draws badly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from genjax.data.images import Batch, Images, Source
from genjax.errors import ConfigError
from genjax.evaluate.score import Score
from genjax.run.scoring import Scorer


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
      whole: of all classes, whose features of the reference are taken; its images have labels.
      labels: class numbers of the samples, int [n].
    """

    whole: Scorer
    labels: np.ndarray

    @cached_property
    def _scorers(self) -> dict[int, Scorer]:
        real = self.whole.real
        of_reference = real.reference.labels()[self.whole.reference_rows]
        others = _by_class(real.others) if real.others and real.others.labelled else {}
        numbers, counts = np.unique(self.labels, return_counts=True)
        return {
            number: self.whole.part(of_reference == number, int(n), others.get(number))
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
                name = self.whole.real.reference.classes[number]
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
            replace(made, name=f"{made.name}, {self.whole.real.reference.classes[number]}")
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
