"""What a long wait is for, with the time that has passed: compilations take up to minutes."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tqdm.auto import tqdm

from genjax.train import progress

logger = logging.getLogger(__name__)

DELAY = 5.0  # seconds before a wait counts as long: a program out of the cache takes less


@contextmanager
def announced(what: str, *, logged: bool = True) -> Iterator[None]:
    """A context that is named on the terminal where it lasts long; nothing is left of it there.

    Args:
      what: what happens, such as "compiling".
      logged: whether it is logged where there is no terminal and no notebook.

    Yields:
      Nothing.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_announce, args=(what, logged, ended.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _announce(what: str, logged: bool, wait: Callable[[float], bool]) -> None:
    """Announces until wait(seconds) is true."""
    if wait(DELAY):
        return
    with (
        suppress(OSError),  # of a terminal that is gone
        tqdm(disable=progress.hidden(), leave=False, bar_format=f"{what}… {{elapsed}}") as line,
    ):
        if line.disable:
            if logged:
                logger.info("%s…", what)
            return
        line.start_t -= DELAY
        while not wait(1.0):
            line.refresh()
