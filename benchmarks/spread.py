"""Medians and ratios of alternating timings, with their spread."""

import random
from statistics import median

DRAWS = 2000


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and third quartile, by linear interpolation."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.25), at(0.75)


def summary(values: list[float]) -> dict[str, float]:
    low, high = quartiles(values)
    return {"median": median(values), "q1": low, "q3": high, "n": len(values)}


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """Median over rounds of theirs / ours, with a 95 % bootstrap interval over the rounds.

    Round i of both was measured one after the other, so that a slow minute of the machine
    affects both times and cancels in their ratio.
    """
    quotients = [t / o for t, o in zip(theirs, ours, strict=True)]
    draw = random.Random(0)
    medians = sorted(median(draw.choices(quotients, k=len(quotients))) for _ in range(DRAWS))
    return {
        "median": median(quotients),
        "low": medians[int(0.025 * DRAWS)],
        "high": medians[int(0.975 * DRAWS) - 1],
    }
