"""What the processes of one run exchange: numbers, complete arrays, that one of them is gone."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.errors import GenjaxError, first_line

# A process is taken for dead after so long without a sign of life; most deaths show at once, as a
# broken connection.
HEARTBEAT_SECONDS = 15

_STATUSES = (
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "UNAVAILABLE",
    "UNKNOWN",
)


class ProcessError(GenjaxError):
    """Another process is gone, differs, or cannot be reached; the message is one line."""

    exit_code = 1


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Joins the other processes of the run, before jax does anything else.

    None for what jax finds out by itself on a cluster it knows (TPU, Slurm, Open MPI).

    Args:
      coordinator: host:port of process 0.
      count: of the processes.
      index: of this process.

    Raises:
      ProcessError: where they cannot be reached.
    """
    jax.config.update("jax_enable_preemption_service", False)  # the loop handles the signals
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise ProcessError(f"cannot join the other processes: {first_line(error)}") from error


def is_multi_process() -> bool:
    """Whether the run has more than this process.

    Returns:
      True for two processes or more.
    """
    return jax.process_count() > 1


def is_main_process() -> bool:
    """Whether this is the process that writes and logs.

    Returns:
      True in process 0.
    """
    return jax.process_index() == 0


def maximum(number: int) -> jax.Array:
    """The greatest of the processes' numbers; all call it together, and none waits.

    Args:
      number: this process', fits int32.

    Returns:
      int32 [].
    """
    each, greatest = _over_processes()
    return greatest(jax.make_array_from_process_local_data(each, np.array([number], np.int32)))


@cache
def _over_processes() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    devices = np.array([jax.local_devices(p)[0] for p in range(jax.process_count())])
    mesh = Mesh(devices, ("process",))
    greatest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
    return NamedSharding(mesh, PartitionSpec("process")), greatest


def gather_to_host(tree: Any) -> Any:
    """The complete arrays on this host; all processes call it together.

    Args:
      tree: arrays, sharded in any way.

    Returns:
      NumPy arrays.
    """

    def fetch(x: jax.Array) -> np.ndarray:
        if x.is_fully_addressable:
            return np.array(x)  # a copy: the buffer is donated to the next steps
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(fetch, tree)


def broadcast_from_main(tree: Any, like: Any) -> Any:
    """Process 0's arrays on every process, bit for bit; all call it together.

    Args:
      tree: host arrays; on the other processes only their shapes and types count.
      like: arrays, or shapes with shardings, to lay the results out by.

    Returns:
      The tree of process 0, each array laid out as in `like`.
    """
    # As bytes: what broadcasts them adds zeros, which turns −0 into 0.
    raw = jax.tree.map(lambda x: np.atleast_1d(np.asarray(x)).view(np.uint8), tree)
    sent = multihost_utils.broadcast_one_to_all(raw)

    def place(raw: np.ndarray, shape: np.ndarray, to: jax.Array) -> jax.Array:
        array = np.asarray(raw).view(shape.dtype).reshape(shape.shape)
        return jax.make_array_from_callback(array.shape, to.sharding, lambda index: array[index])

    return jax.tree.map(place, sent, tree, like)


def agree(what: str, text: str) -> None:
    """Checks that all processes hold the same text; a barrier, too.

    Args:
      what: the text is, for the message.
      text: this process'.

    Raises:
      ProcessError: where they differ.
    """
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    if np.any(digests != digests[:1]):
        raise ProcessError(f"the processes of this run differ in {what}: start all of them alike")


@contextmanager
def readable_collective_errors() -> Iterator[None]:
    """A context in which a broken collective raises one readable line.

    Yields:
      Nothing.

    Raises:
      ProcessError: for jax' own error of a collective whose peer is gone.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if not is_multi_process() or not str(error).startswith(_STATUSES):
            raise
        raise ProcessError(
            "lost another process of this run: start all of them again to resume from the last "
            f"checkpoint ({first_line(error)[:100]})"
        ) from error
