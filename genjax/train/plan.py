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
    """

    steps: int
    every: int
    log: int
    batch: int
    epoch: int


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
