"""What compiling a program asks of the host's memory."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from genjax.train import waiting


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


def ahead(function: Any, what: str) -> Callable[..., Any]:
    """A function that is compiled before its first call, in `compiling`, and announced.

    Args:
      function: jitted.
      what: it does, such as "the sampler".

    Returns:
      A function of the same arguments.
    """
    called = False

    def call(*arguments: Any) -> Any:
        nonlocal called
        if not called:
            called = True
            with waiting.announced(f"compiling {what}"), compiling():
                function.lower(*arguments).compile()  # the call does not compile again
        return function(*arguments)

    return call
