"""The lock of a run directory: one process trains in it at a time, readers need none."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import ConfigError, printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

NAME = "lock"
MAX_BYTES = 4096  # of the file: a name, two numbers

# What a file system says that has no locks, or whose lock server is not there.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the lock of a run directory.

    The kernel drops it with the process, however that ends, so that none is ever stale; Linux
    passes it on to a network file system's server. The file names the holder for people.

    Args:
      directory: the run's; it is there.

    Yields:
      Nothing.

    Raises:
      ConfigError: where another process holds it.
      OSError: where the file cannot be written.
    """
    path = directory / NAME
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o666), "r+") as file:
        held = _take(file.fileno(), directory)
        here = socket.gethostname()
        host = _holder(path).get("host")
        if isinstance(host, str) and host != here:
            logger.warning(
                "a process on %s held %s and has not released it: make sure that it has ended",
                _shown(host),
                directory,
            )
        started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        file.truncate()
        file.write(json.dumps({"host": here, "process": os.getpid(), "started": started}) + "\n")
        file.flush()
        try:
            yield
        finally:
            if held:
                with suppress(OSError):  # a full disk: the lock ends all the same
                    os.truncate(file.fileno(), 0)


def _take(descriptor: int, directory: Path) -> bool:
    """Takes the lock; False where the file system has none."""
    why = "this system has none"
    if fcntl is not None:
        try:
            # flock, not lockf: two threads of one process exclude each other, too.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            raise ConfigError(_in_use(directory)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            why = str(error.strerror)
    logger.warning(
        "%s cannot be locked (%s): make sure that no other process trains in it", directory, why
    )
    return False


def _in_use(directory: Path) -> str:
    holder = _holder(directory / NAME)
    by = "another process"
    if holder:
        process, host, started = (_shown(holder.get(k)) for k in ("process", "host", "started"))
        by = f"process {process} on {host} since {started}"
    return f"{directory} is in use by {by}: stop that one first, or give another --run.dir"


def _holder(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path, MAX_BYTES)
    except (OSError, ValueError):
        return {}


def _shown(value: Any) -> str:
    return printable(str(value))[:100]
