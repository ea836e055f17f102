"""How busy other processes kept the cores while no worker ran."""

import os
import time
from pathlib import Path

# Thread pools that still spin after their work would slow the next worker.
SETTLE = 0.05
WATCH = 0.1


class Idleness:
    """Watches the cores in the pauses between the turns, when every worker waits."""

    def __init__(self) -> None:
        self.cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        self.worked = self.all = 0

    def settle(self) -> None:
        """A pause, whose second part is watched."""
        time.sleep(SETTLE)
        worked, total = self._ticks()
        time.sleep(WATCH)
        worked_then, total_then = self._ticks()
        self.worked += worked_then - worked
        self.all += total_then - total

    def busy(self) -> float:
        """The share of the cores' time that other processes took."""
        return self.worked / self.all if self.all else 0.0

    def _ticks(self) -> tuple[int, int]:
        worked = total = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *ticks = line.split()
            if name in self.cores:
                counts = [int(n) for n in ticks[:8]]
                total += sum(counts)
                worked += sum(counts) - counts[3] - counts[4]  # idle, and waiting for a disk
        return worked, total
