"""Signals that ask a process to stop, noticed at once, even inside a long computation."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# SIGHUP comes from a closed terminal.
STOPPING = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))

Handler = Callable[[int, object], None]


@contextmanager
def handled(handler: Handler, notice: Callable[[int], None]) -> Iterator[None]:
    """A context in which signals that ask the process to stop are handled.

    Python runs handlers between two instructions of the main thread, which may spend minutes
    inside one. Other threads than the main one are left alone, and so is a SIGHUP that nohup
    ignores.

    Args:
      handler: (signal, frame), called in the main thread, once it can be.
      notice: (signal), called in another thread at once.

    Yields:
      Nothing; at the end the earlier handlers are back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {n: signal.getsignal(n) for n in STOPPING}
    if earlier.get(getattr(signal, "SIGHUP", None)) is signal.SIG_IGN:
        del earlier[signal.SIGHUP]
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    awakened = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(receiver, {*earlier}, notice), daemon=True)
    thread.start()
    for n in earlier:
        signal.signal(n, handler)
    try:
        yield
    finally:
        signal.set_wakeup_fd(awakened, warn_on_full_buffer=False)
        for n, before in earlier.items():
            signal.signal(n, before)
        sender.send(b"\0")
        thread.join(1)  # it may be waiting for a terminal
        if not thread.is_alive():
            receiver.close()
        sender.close()


def _watch(receiver: socket.socket, numbers: set[int], notice: Callable[[int], None]) -> None:
    while (signum := receiver.recv(1)) not in (b"", b"\0"):
        if signum[0] in numbers:
            with suppress(OSError):  # of a terminal that is gone
                notice(signum[0])
