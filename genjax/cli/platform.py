"""What must be settled before jax starts, and how to leave when it cannot end by itself."""

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

# jaxlib 0.10.2 and later send convolutions to YNNPACK on the CPU, which is slower at training by
# half; an option that a jaxlib does not know aborts the process.
_CPU_OPTION = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
_KNOWN_FROM, _KNOWN_BEFORE = (0, 10, 2), (0, 13)


def configure() -> None:
    """Sets the environment jax reads when it is first used; what the user has set stays.

    Compiled programs are kept in $JAX_COMPILATION_CACHE_DIR, else in ~/.cache/genjax/xla, so that
    a second start is quick.
    """
    # Orbax and TFDS warn of what is meant so.
    logging.getLogger("absl").setLevel(logging.ERROR)
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


def leave(code: int) -> NoReturn:
    """Exits after an error; at once in a run of several processes, as jax would wait for them."""
    jax = sys.modules.get("jax")
    if jax and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
