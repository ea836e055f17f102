"""What compiling a program asks of the host's memory."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


@contextmanager
def uncollected() -> Iterator[None]:
    """A context without Python's garbage collector.

    Nothing of the hundred thousand objects that tracing a large program makes is garbage before its
    end, and the collector's looks at them are a tenth of the time.

    Yields:
      Nothing.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def compiling() -> Iterator[None]:
    """For the first call of a large program: frees what tracing and compiling it left.

    Traces are cycles that the collector finds late, and glibc keeps what the compiler frees: of a
    U-Net's train step over 500 MiB, which are handed back to the system.

    Yields:
      Nothing.
    """
    with uncollected():
        yield
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim:
            trim(0)


def freeing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose first call, the one that compiles it, is made in `compiling`.

    Args:
      function: jitted.

    Returns:
      A function of the same arguments.
    """
    called = False

    def call(*arguments: Any) -> Any:
        nonlocal called
        with nullcontext() if called else compiling():
            called = True
            return function(*arguments)

    return call
