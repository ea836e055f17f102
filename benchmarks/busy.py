"""How much of the time a GPU works, by jax's profiler."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def share(run: Callable[[], object]) -> float | None:
    """The share of the time from the first kernel to the last in which any runs; None if unknown.

    run: dispatches work and waits for it.
    """
    import jax

    with tempfile.TemporaryDirectory() as folder:
        try:
            with jax.profiler.trace(folder):
                run()
            (path,) = Path(folder).rglob("*.xplane.pb")
            found = list(_kernels(jax.profiler.ProfileData.from_file(str(path))))
        except (RuntimeError, ValueError):  # no profiler there, or another's
            return None
    return covered(found)


def _kernels(data: object) -> Iterable[tuple[float, float]]:
    for plane in data.planes:  # type: ignore[attr-defined]
        if plane.name.startswith("/device:GPU"):
            for line in plane.lines:
                if line.name.startswith("Stream"):
                    for event in line.events:
                        yield event.start_ns, event.start_ns + event.duration_ns


def covered(intervals: list[tuple[float, float]]) -> float | None:
    """The share of the span of some intervals that any of them covers; None of none."""
    if not intervals:
        return None
    ordered = sorted(intervals)
    first = end = ordered[0][0]
    total = 0.0
    for a, b in ordered:
        total += max(0.0, b - max(a, end))
        end = max(end, b)
    return total / (end - first) if end > first else None
