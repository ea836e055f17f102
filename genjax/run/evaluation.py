"""The expensive scores of a trained state on images, with standard errors."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import jax
from tqdm.auto import tqdm

import genjax
from genjax.data.images import Images
from genjax.errors import ConfigError
from genjax.evaluate.average import Average, OrderedJit, average
from genjax.run.family import Measure
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a state, and what they are of.

    Attributes:
      scores: {name: score of each image}, with mean and standard error.
      units: {name: unit}.
      step: of the state.
      data: the data set's name.
      split: of the data set.
      n: images scored.
      of: images in the split.
      seed: of the choice of images and of the noise.
      seconds: it took.
      alarms: {name: floor} of scores too low to be trusted.
    """

    scores: dict[str, Average]
    units: dict[str, str]
    step: int
    data: str
    split: str
    n: int
    of: int
    seed: int
    seconds: float
    alarms: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it, with the device and the versions.

        Returns:
          A dict of plain values.
        """
        return {
            "step": self.step,
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "of": self.of,
            "seed": self.seed,
            "scores": {
                name: {"value": a.mean, "error": a.error, "unit": self.units[name]}
                for name, a in self.scores.items()
            },
            "seconds": round(self.seconds, 1),
            "device": jax.devices()[0].device_kind,
            "genjax": genjax.__version__,
            "jax": jax.__version__,
        }

    def __str__(self) -> str:
        width = max(map(len, self.scores))
        lines = [
            f"{name:<{width}}  {a.mean:>10.4f} ± {a.error:<8.4f} {self.units[name]}"
            for name, a in self.scores.items()
        ]
        which = "all" if self.n == self.of else f"{self.n:,} random ones of"
        lines.append(f"on {which} {self.of:,} images, {self.data} {self.split}, seed {self.seed}")
        for name, floor in self.alarms.items():
            if share := self.scores[name].below(floor):
                lines.append(
                    f"warning: {name} is under {floor:g} for {share:.1%} of the images: "
                    "their values rest on few samples and are pessimistic"
                )
        return "\n".join(lines)


def evaluate(
    measure: Measure, state: TrainState, images: Images, *, n: int | None = None, seed: int = 0
) -> Evaluation:
    """Scores a trained state, with a progress bar; what it will take is logged early.

    Args:
      measure: the family's scores.
      state: the trained state.
      images: to score.
      n: how many images, chosen at random by the seed; 0 for all, None for as many as the measure
        says.
      seed: of the choice of images and of the noise.

    Returns:
      The scores.

    Raises:
      ConfigError: for a negative n or seed, or one image, which has no standard error.
    """
    on_cpu = jax.default_backend() == "cpu"
    if n is None:
        n = measure.n if on_cpu else max(measure.n, 1000)
    if n < 0 or seed < 0:
        raise ConfigError("--n and --seed are not negative; --n 0 takes every image")
    n = min(n or len(images), len(images))
    if n < 2:
        raise ConfigError(
            f"--n {n}: a standard error needs two images, and there are {len(images)}"
        )
    size = min(measure.chunk, n, max(1, measure.n // 10) if on_cpu else n)
    began = monotonic()
    with tqdm(total=n, unit="image", disable=None) as bar:
        found = average(
            _logging_cost(measure, state, n, size, bar),
            images.evaluation_batches(size, limit=n, seed=seed),
            jax.random.key(seed),
            progress=lambda done: bar.update(done - bar.n),
        )
    return Evaluation(
        scores=found,
        units={name: measure.units[name] for name in found},
        step=int(state.step),
        data=images.name,
        split=images.split,
        n=n,
        of=len(images),
        seed=seed,
        seconds=monotonic() - began,
        alarms=dict(measure.alarms),
    )


def _logging_cost(measure: Measure, state: TrainState, n: int, size: int, bar: Any) -> Any:
    """(keys, batch) -> scores, which logs what all of them will take after the first batch."""
    score = OrderedJit(measure.scores)
    timed = False

    def scores(keys: jax.Array, batch: Any) -> dict[str, jax.Array]:
        nonlocal timed
        if timed or size == n:
            return score(state, keys, batch)
        logger.info("scoring %s images, %s at a time; the first tell the cost", f"{n:,}", size)
        score.compile(state, keys, batch)
        bar.reset()  # the time left is that of scoring
        began = monotonic()
        found = jax.block_until_ready(score(state, keys, batch))
        seconds, timed = monotonic() - began, True
        logger.info(
            "%s images took %s, %s will take about %s; --n N for fewer",
            size,
            _duration(seconds),
            f"{n:,}",
            _duration(seconds / size * n),
        )
        return found

    return scores


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
