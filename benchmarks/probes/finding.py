"""What a probe reports, and how probes compare two variants."""

import importlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax


class Finding(NamedTuple):
    """A measured figure, and whether the fact still holds."""

    figure: str
    holds: bool


def slowdown(slow: Callable[[], Any], fast: Callable[[], Any], rounds: int = 7) -> float:
    """Median of the time of `slow` over that of `fast`, which take turns after one call of each."""

    def seconds(function: Callable[[], Any]) -> float:
        began = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - began

    seconds(slow), seconds(fast)
    return median(seconds(slow) / seconds(fast) for _ in range(rounds))


def measure(name: str) -> Finding:
    """Runs the probe of this name."""
    return importlib.import_module(f"benchmarks.probes.{name}").probe()
