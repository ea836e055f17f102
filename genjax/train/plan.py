"""How long to train, and what happens when."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How long to train, and what happens when.

    Attributes:
      steps: where training ends.
      every: steps between periodic evaluations, each followed by a checkpoint.
      log: steps between rows of metrics, each the means over those steps.
      batch: images per step, over all processes.
      epoch: images per epoch.
      first_images: the step at which images are drawn before the first evaluation; None for none.
    """

    steps: int
    every: int
    log: int
    batch: int
    epoch: int
    first_images: int | None = None


def largest_scan_steps(every: int, most: int) -> int:
    """How many train steps to compile together so that no call crosses an evaluation.

    Args:
      every: steps between periodic evaluations.
      most: the most train steps in one call.

    Returns:
      The largest number up to `most` that divides `every`.
    """
    small = (n for n in range(1, math.isqrt(every) + 1) if every % n == 0)
    return max(n for divisor in small for n in (divisor, every // divisor) if n <= most)


def first_images(steps: int, every: int, scan_steps: int) -> int | None:
    """When images are drawn before the first evaluation, so that a mistake is seen early.

    Args:
      steps: where training ends.
      every: steps between periodic evaluations.
      scan_steps: train steps in one call; it divides `every`.

    Returns:
      The last step within the first tenth at which a call ends, or the first after it. None where
      an evaluation comes as early, or the run has no ten steps.
    """
    step = max(1, steps // 10 // scan_steps) * scan_steps
    return step if steps >= 10 and step < min(every, steps) else None
