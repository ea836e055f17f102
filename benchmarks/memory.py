"""How much memory this process has used, as counted by Linux."""

from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident() -> float:
    """MiB now in RAM."""
    return _status("VmRSS")


def peak() -> float:
    """Peak MiB since `forget_peak`, or since the start."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Resets the high-water mark to the current use."""
    CLEAR.write_text("5")


def _status(name: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{STATUS} has no {name}")
