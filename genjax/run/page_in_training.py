"""The page of a run while it trains, and the record of how that was started."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from genjax.errors import one_line
from genjax.report import rendering
from genjax.report.embedding import Embedder
from genjax.run import starts
from genjax.run.run_page import NAME, page

logger = logging.getLogger(__name__)

MOST_READ = 1 << 28  # bytes of a checkpoint that is read to see whether it is intact


class RunPage:
    """The page of a run that is being trained; it encodes each image once.

    Args:
      directory: the run's.
      config: its settings, a dataclass.
    """

    def __init__(self, directory: Path, config: Any):
        self.directory, self.config = directory, config
        self._embedder, self._started = Embedder(), False

    def started(self, step: int) -> None:
        """Records how the run was started, once, and not the next stage of it.

        Args:
          step: where training starts.
        """
        if not self._started:
            starts.record(self.directory, self.config, step)
            self._started = True

    def write(self) -> None:
        """Writes the page; that it cannot be written is logged, as it is no reason to stop."""
        try:
            html = rendering.render(page(self.directory, self._embedder, MOST_READ))
            rendering.save(self.directory / NAME, html)
        except Exception as error:  # what a file holds must not end a training, either
            logger.warning("%s could not be written: %s", NAME, one_line(error))
