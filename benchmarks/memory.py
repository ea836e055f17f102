"""How much memory this process has held, from Linux' own count."""

from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident() -> float:
    """MiB now in RAM."""
    return _status("VmRSS")


def peak() -> float:
    """MiB at most since `forget_peak`, or since the start."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Lets the high-water mark fall to what is held now."""
    CLEAR.write_text("5")


def _status(name: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{STATUS} has no {name}")
