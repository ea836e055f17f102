"""Averages of a per-example score over a data set, each with its standard error."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Average:
    """A score of every example, [n] float64, as mean ± standard error."""

    values: np.ndarray

    @property
    def n(self) -> int:
        """How many examples."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """x̄ = Σ xᵢ / n."""
        return float(self.values.mean())

    @property
    def error(self) -> float:
        """s/√n with s² = Σ (xᵢ − x̄)²/(n − 1), NaN for n < 2.

        What another test set of this size would change, and the noise of the score itself where
        it draws any; not what another training run would.
        """
        return float(self.values.std(ddof=1)) / self.n**0.5 if self.n > 1 else float("nan")

    def below(self, bound: float) -> float:
        """The share of examples that score under a bound."""
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
      score: (keys [B], batch) -> {name: [B]}, called as it is: pass `ordered_jit` of one.
      batches: trees of arrays [B, ...]; "mask" [B], where there is one, is taken out and says which
        examples count, so that the last batch can be filled up.
      key: one; the example at place i gets fold_in(key, i), whatever B is.
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
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, place + jnp.arange(size))
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


def ordered_jit(
    score: Callable[..., Mapping[str, jax.Array]],
) -> Callable[..., dict[str, jax.Array]]:
    """jax.jit of a function to {name: array} that keeps the order of the names: jit sorts them."""
    names: list[str] = []

    def values(*given: Any) -> list[jax.Array]:
        found = score(*given)
        names[:] = found
        return list(found.values())

    jitted = jax.jit(values)

    def ordered(*given: Any) -> dict[str, jax.Array]:
        found = jitted(*given)
        return dict(zip(names, found, strict=True))

    return ordered
