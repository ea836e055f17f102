"""The arrays of a checkpoint as they were saved, read without their family."""

from pathlib import Path

import jax
import numpy as np

from genjax.train.checkpoint import Checkpoints


def arrays(folder: Path, step: int | None = None):
    """NumPy arrays of a run's (or a stage's) checkpoint; the newest where no step is given."""
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    try:
        step = checkpoints.steps()[-1] if step is None else step
        state = checkpoints._orbax.restore(checkpoints.directory / str(step) / "state")
        return jax.tree.map(np.asarray, state)
    finally:
        checkpoints.close()
