"""What is set before jax computes, and how to leave when it cannot end by itself."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import jax

from genjax import files
from genjax.errors import ConfigError, first_line
from genjax.train import processes, signals

# jaxlib 0.10.2 and later send convolutions to YNNPACK on the CPU, which is slower at training by
# half; an option that a jaxlib does not know aborts the process.
_CPU_OPTION = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
_DEVICES = re.compile(r"--xla_force_host_platform_device_count=(\d+)")
GRACE_SECONDS = 2.0  # for files to be closed after a signal
_KNOWN_FROM, _KNOWN_BEFORE = (0, 10, 2), (0, 13)


def configure() -> None:
    """Sets what jax reads before its first computation; what the user has set stays.

    Compiled programs are cached in $JAX_COMPILATION_CACHE_DIR, else in ~/.cache/genjax/xla, so that
    a second start is quick.

    Raises:
      ConfigError: where XLA_FLAGS cannot be used.
    """
    # Orbax and TFDS warn of what is intended, and log the stack of what they raise as well.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _set_flags(os.environ.get("XLA_FLAGS", ""))
    _set_cache()


def _set_flags(flags: str) -> None:
    if not all(map(_DEVICES.fullmatch, flags.split())):
        _check_flags()
    jaxlib = tuple(int(part) for part in version("jaxlib").split(".")[:3] if part.isdigit())
    known = _KNOWN_FROM <= jaxlib < _KNOWN_BEFORE
    a_file = bool(flags.strip()) and not flags.strip().startswith("-")
    if known and not a_file and "xla_cpu_experimental_ynn_fusion_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_OPTION}".strip()
    # Simulated devices need two threads each, or steps that nobody awaits deadlock.
    for count in _DEVICES.findall(flags):
        os.environ.setdefault("PJRT_NPROC", str(max(2 * int(count), os.cpu_count() or 1)))


def _check_flags() -> None:
    """Has another process read $XLA_FLAGS: XLA ends the one in which it cannot."""
    code = "from jaxlib import _jax; _jax.CompileOptions()"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = re.search(r"^F\d{4} .*parse_flags.*?\] (.*)", tried.stderr, re.M)
    if tried.returncode and found:
        raise ConfigError(f"XLA_FLAGS={os.environ['XLA_FLAGS']} cannot be used: {found[1]}")


def _set_cache() -> None:
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    given = os.environ.get(names[0].upper())
    folder = given or os.path.expanduser("~/.cache/genjax/xla")
    # jax is imported already, and has read its environment.
    if given is None:
        jax.config.update(names[0], folder)
    if names[1].upper() not in os.environ:
        jax.config.update(names[1], 0.3)
    trouble = None if "://" in folder else files.unwritable(Path(folder))
    if trouble:
        jax.config.update("jax_enable_compilation_cache", False)
        report(
            f"note: compiled programs are not kept, as {folder} cannot be written ({trouble}): "
            "JAX_COMPILATION_CACHE_DIR=DIR names another folder"
        )


@contextmanager
def printed_log() -> Iterator[None]:
    """Prints what genjax logs, a line each, on stdout.

    Yields:
      Nothing.
    """
    logger = logging.getLogger("genjax")
    handler = _Printer()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library's handler of the root logger would print it again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if processes.is_main_process():
            with suppress(OSError):  # nobody reads on: no reason to end a run
                print(_wrapped(self.format(record)), flush=True)


def _wrapped(line: str) -> str:
    """A line of fields, two spaces apart, in as many as the terminal is wide."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = [""]
    for part in line.split("  ") if 0 < width < len(line) else ():
        if lines[-1].strip() and len(lines[-1]) + len(part) >= width:
            lines.append("   ")
        lines[-1] += f"  {part}" if lines[-1] else part
    return "\n".join(lines) if len(lines) > 1 else line


class Interrupted(KeyboardInterrupt):
    """A signal asks the command to stop.

    Args:
      signum: number of the signal.
    """

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


@contextmanager
def interruptible() -> Iterator[None]:
    """A context in which signals to stop raise, or end the process where nothing can be raised.

    A compilation of minutes lets nothing be raised. The loop has its own way with signals.

    Yields:
      Nothing.

    Raises:
      Interrupted: on SIGINT, SIGTERM or SIGHUP.
    """
    ended = threading.Event()

    def interrupt(signum: int, _frame: object) -> None:
        raise Interrupted(signum)

    def notice(signum: int) -> None:
        if not ended.wait(GRACE_SECONDS):
            report(f"stopped: {signal.Signals(signum).name}")
            leave(128 + signum, at_once=True)

    with signals.handled(interrupt, notice):
        try:
            yield
        finally:
            ended.set()


def report(line: str) -> None:
    """Prints a line on stderr, where that is still there.

    Args:
      line: to print.
    """
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Prints one line for what a library's own threads raise, in place of their stacks.

    What matters of it reaches the main thread, which ends the run.

    Yields:
      Nothing.
    """
    printed: set[str] = set()

    def report(kind: type[BaseException], error: BaseException | None) -> None:
        text = first_line(error) if error else ""
        line = kind.__name__ if text in ("", kind.__name__) else f"{kind.__name__}: {text}"
        if line not in printed:
            print(f"in the background: {line}", file=sys.stderr)
        printed.add(line)

    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    sys.excepthook = lambda kind, error, _: report(kind, error)
    sys.unraisablehook = lambda raised: report(raised.exc_type, raised.exc_value)
    threading.excepthook = lambda raised: report(raised.exc_type, raised.exc_value)
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


def leave(code: int, *, at_once: bool) -> NoReturn:
    """Exits after an error.

    Args:
      code: the exit code.
      at_once: whether not to wait for threads, which would fail once more at a disk that is full. A
        run of several processes does not wait either: jax would, for those that are gone.
    """
    if at_once or jax.distributed.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
