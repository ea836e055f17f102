"""Averages of a per-example score over a data set, each with its standard error."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from genjax.keys import per_example


@dataclass(frozen=True)
class Average:
    """A score of every example, as mean ± standard error.

    Attributes:
      values: the scores, float64 [n].
    """

    values: np.ndarray

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """x̄ = Σ xᵢ / n."""
        return float(self.values.mean())

    @property
    def error(self) -> float:
        """s/√n with s² = Σ (xᵢ − x̄)²/(n − 1), NaN for n < 2.

        It covers the sampling of the test set, and the noise of the score where it draws any, but
        not the variation between training runs.
        """
        return float(self.values.std(ddof=1)) / self.n**0.5 if self.n > 1 else float("nan")

    def below(self, bound: float) -> float:
        """The share of examples that score under a bound.

        Args:
          bound: in the unit of the score.

        Returns:
          In 0..1.
        """
        return float((self.values < bound).mean())


def average(
    score: Callable[[jax.Array, Any], Mapping[str, jax.Array]],
    batches: Iterable[Mapping[str, Any]],
    key: jax.Array,
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Average]:
    """Averages of scores over batches of one shape.

    Args:
      score: (keys [B], batch) -> {name: [B]}, called as it is: pass an `OrderedJit`.
      batches: trees of arrays [B, ...]; "mask" [B], where there is one, is taken out and says which
        examples count, so that the last batch can be padded.
      key: one; example i in the order of the batches gets fold_in(key, i), whatever B is.
      progress: called after each batch with the number of examples done.

    Returns:
      {name: Average}.

    Raises:
      ValueError: where there are no examples, or a score is not [B].
    """
    found: dict[str, list[np.ndarray]] = {}
    place = done = 0
    for batch in batches:
        rest = {name: value for name, value in batch.items() if name != "mask"}
        size = len(next(iter(rest.values())))
        mask = np.asarray(batch.get("mask", np.ones(size, bool)))
        keys = per_example(key, size, place)
        for name, values in score(keys, rest).items():
            if values.shape != (size,):
                raise ValueError(
                    f"give one {name} per example: {values.shape} for a batch of {size}"
                )
            found.setdefault(name, []).append(np.asarray(values, np.float64)[mask])
        place, done = place + size, done + int(mask.sum())
        if progress:
            progress(done)
    if not done:
        raise ValueError("there is nothing to average: give at least one example")
    return {name: Average(np.concatenate(values)) for name, values in found.items()}


class OrderedJit:
    """jax.jit of a function to {name: array} that keeps the order of the names: jit sorts them.

    Args:
      score: (*arrays) -> {name: array}.
    """

    def __init__(self, score: Callable[..., Mapping[str, jax.Array]]):
        self._names: list[str] = []

        def values(*given: Any) -> list[jax.Array]:
            found = score(*given)
            self._names[:] = found
            return list(found.values())

        self._jitted = jax.jit(values)

    def __call__(self, *given: Any) -> dict[str, jax.Array]:
        """The scores.

        Args:
          *given: what the function takes.

        Returns:
          {name: array}, in the order in which the function returns them.
        """
        found = self._jitted(*given)
        return dict(zip(self._names, found, strict=True))

    def compile(self, *given: Any) -> None:
        """Compiles the function for arrays of some shapes, so that a call takes no time for it.

        Args:
          *given: what the function takes.
        """
        self._jitted.lower(*given).compile()
