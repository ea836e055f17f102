"""The garbage collector is paused while a program compiles; freed memory is then returned."""

import ctypes
import gc
import sys
import weakref
from pathlib import Path

import pytest

from genjax.train import host_memory


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))  # KiB


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)
def test_freed_memory_is_returned_to_the_system():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    # Small enough that the allocator keeps them when they are freed, 64 MiB in all.
    blocks = [ctypes.c_void_p(libc.malloc(1 << 16)) for _ in range(1 << 10)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 16)
    # At the top of the heap, so that the memory below is not trimmed by itself.
    keeper = ctypes.c_void_p(libc.malloc(1 << 16))
    for block in blocks:
        libc.free(block)
    before = resident()
    with host_memory.compiling():
        pass
    assert before - resident() > 48 << 10
    libc.free(keeper)


@pytest.fixture(params=[True, False], ids=["collecting", "disabled before"])
def collects(request):
    if not request.param:
        gc.disable()
    yield request.param
    gc.enable()


@pytest.mark.parametrize("fails", [False, True])
def test_the_garbage_collector_is_paused_and_restored(collects, fails):
    try:
        with host_memory.compiling():
            assert not gc.isenabled()
            if fails:
                raise LookupError
    except LookupError:
        pass
    assert gc.isenabled() == collects


def test_reference_cycles_are_freed():
    class Node:
        def __init__(self):
            self.me = self

    with host_memory.compiling():
        alive = weakref.ref(Node())
        assert alive()
    assert alive() is None


def test_a_function_is_compiled_ahead_once_and_before_its_first_call():
    done = []

    class Jitted:
        def lower(self, *arguments):
            done.append(("lower", arguments))
            return self

        def compile(self):
            done.append("compile")

        def __call__(self, *arguments):
            done.append("call")
            return sum(arguments)

    call = host_memory.ahead(Jitted(), "a sum")
    assert [call(1, 2), call(3, 4)] == [3, 7]
    assert done == [("lower", (1, 2)), "compile", "call", "call"]
