"""Restarting `python -m …` with another allocator; imports nothing that takes time."""

import os
import signal
import sys
from platform import libc_ver
from types import TracebackType

from genjax.errors import environment_error

# Huge pages; arrays are mapped on their own only from 32 MiB on, the most that glibc allows, and up
# to 1 GiB of the rest stays when it is freed.
_TUNABLES = {
    "glibc.malloc.hugetlb": 1,
    "glibc.malloc.mmap_threshold": 32 << 20,
    "glibc.malloc.trim_threshold": 1 << 30,
}


def keep_freed_memory() -> None:
    """Re-executes `python -m …` once with an allocator of huge pages that keeps what is freed.

    Neither can be asked for later. XLA's temporary arrays of one step are mapped again in the next,
    and a page fault for each 4 KiB of them is up to a tenth of a convolutional network's step. Call
    it before importing anything that takes time. A program that is a file or came through a pipe
    is left alone, and so is a user's own choice.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    restartable = "-m" in sys.orig_argv and libc_ver()[0] == "glibc"
    if restartable and not any(name in tunables for name in _TUNABLES):
        ours = (f"{name}={value}" for name, value in _TUNABLES.items())
        os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, *ours)))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def open_streams() -> None:
    """Lets every text be printed: "?" for what the terminal's encoding lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed; the next file that is opened would take its place
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def quiet_compiler() -> None:
    """Leaves XLA's alarms about itself unprinted, such as that a compilation takes long.

    Errors that matter are raised, and what ends the process is printed. It has to be set before jax
    is imported; a user's own choice stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def report_early_errors() -> None:
    """One line where an import fails by an environment variable, in place of a traceback."""

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if line := environment_error(error):
            print(f"error: {line}", file=sys.stderr, flush=True)
            os._exit(2)
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = report


def report_early_signals() -> None:
    """One line for a signal during the imports, which take seconds, in place of a traceback."""

    def leave(signum: int, _frame: object) -> None:
        print(f"stopped: {signal.Signals(signum).name}", file=sys.stderr, flush=True)
        os._exit(128 + signum)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
