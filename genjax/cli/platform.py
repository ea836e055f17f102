"""What must be settled before jax starts, and how to leave when it cannot end by itself."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from platform import libc_ver
from typing import NoReturn

from genjax.errors import first_line

# jaxlib 0.10.2 and later send convolutions to YNNPACK on the CPU, which is slower at training by
# half; an option that a jaxlib does not know aborts the process.
_CPU_OPTION = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
_KNOWN_FROM, _KNOWN_BEFORE = (0, 10, 2), (0, 13)

# Huge pages; arrays are mapped on their own only from 32 MiB on, the most that glibc allows, and up
# to 1 GiB of the rest stays when it is freed.
_KEEPING = {
    "glibc.malloc.hugetlb": 1,
    "glibc.malloc.mmap_threshold": 32 << 20,
    "glibc.malloc.trim_threshold": 1 << 30,
}


def configure() -> None:
    """Sets the environment jax reads when it is first used; what the user has set stays.

    Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR, else in ~/.cache/genjax/xla, so that
    a second start is quick.
    """
    # Orbax and TFDS warn of what is meant so, and log the whole stack of what they raise as well.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    flags = os.environ.get("XLA_FLAGS", "")
    jaxlib = tuple(int(part) for part in version("jaxlib").split(".")[:3] if part.isdigit())
    known = _KNOWN_FROM <= jaxlib < _KNOWN_BEFORE
    if known and "xla_cpu_experimental_ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_OPTION}".strip()
    cache = Path("~/.cache/genjax/xla").expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    # Simulated devices need two threads each, or steps that nobody awaits deadlock.
    if "xla_force_host_platform_device_count=" in flags:
        count = flags.split("xla_force_host_platform_device_count=")[1].split()[0]
        os.environ.setdefault("PJRT_NPROC", str(max(2 * int(count), os.cpu_count() or 1)))


def with_kept_memory() -> None:
    """Starts the command anew, in its own place, with an allocator that keeps what a step frees.

    That cannot be asked for later. XLA's temporary arrays of one step are mapped anew in the next,
    and a fault for each 4 KiB of them is up to a tenth of a convolutional network's step.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    # Of what came through a pipe nothing would be left to start.
    anew = "-m" in sys.orig_argv and libc_ver()[0] == "glibc"
    if anew and not any(name in tunables for name in _KEEPING):
        ours = (f"{name}={value}" for name, value in _KEEPING.items())
        os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, *ours)))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def background() -> Iterator[None]:
    """One line for what a library's own threads raise, in place of their stacks.

    What matters of it reaches the main thread, which ends the run.
    """
    told: set[str] = set()

    def tell(kind: type[BaseException], error: BaseException | None) -> None:
        text = first_line(error) if error else ""
        line = kind.__name__ if text in ("", kind.__name__) else f"{kind.__name__}: {text}"
        if line not in told:
            print(f"in the background: {line}", file=sys.stderr)
        told.add(line)

    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    sys.excepthook = lambda kind, error, _: tell(kind, error)
    sys.unraisablehook = lambda raised: tell(raised.exc_type, raised.exc_value)
    threading.excepthook = lambda raised: tell(raised.exc_type, raised.exc_value)
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


def leave(code: int, *, at_once: bool) -> NoReturn:
    """Exits after an error.

    at_once: not waiting for threads, which fail once more at a disk that is full. Nor does a run of
    several processes wait: jax would, for those that are gone.
    """
    jax = sys.modules.get("jax")
    if at_once or (jax and jax.distributed.is_initialized()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
