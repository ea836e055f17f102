"""Checkpoints of a run: Orbax underneath, sha256 digests on top; the latest and the best remain."""

import errno
import logging
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from genjax import files
from genjax.errors import GenjaxError, first_line
from genjax.train import digests, processes, weights
from genjax.train.state import TrainState, Tree

logger = logging.getLogger(__name__)

# What a killed save or deletion leaves: ours by its name, and no checkpoint.
_SCRAP = re.compile(r"\.(saving|deleting)-\d+-[0-9a-f]{16}|\d+\.orbax-checkpoint-tmp.*")
_SET_ASIDE = re.compile(r"\d+\.damaged(-\d+)?")


class CheckpointError(GenjaxError):
    """A checkpoint cannot be saved or restored; the message is one line."""


class SaveError(CheckpointError):
    """A checkpoint could not be written; the earlier ones are as they were."""

    at_once = True  # the threads of the failed save fail once more at a normal exit


class ReadError(CheckpointError):
    """The disk does not read at the moment, which says nothing about the checkpoints."""

    exit_code = 1


class Checkpoints:
    """The checkpoints in one directory.

    A checkpoint has its digests before it has its name: Orbax detects no flipped byte, and deletes
    non-atomically. A damaged one is skipped and set aside, never deleted. Of several processes the
    first alone reads and writes; the others take part in save and restore, which all of them call
    together.

    Args:
      directory: where; made absolute, because Orbax resolves it later, in a thread.
      keep: how many of the latest to keep, beside the one of the lowest score; None for all.
      read_only: leave everything as it is, for looking into a run that may be under way.

    Raises:
      CheckpointError: where the directory cannot be used.
    """

    def __init__(self, directory: str | Path, keep: int | None = 2, *, read_only: bool = False):
        self.directory, self.keep = Path(directory).absolute(), keep
        self.is_main = processes.is_main_process()
        self.writer = self.is_main and not read_only
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._finishing: Future[None] | None = None
        self._saving: Path | None = None
        # Of several processes Orbax is told of one: none waits in a barrier for a dead peer.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="genjax"
        )
        options = {"multiprocessing_options": alone} if processes.is_multi_process() else {}
        self._orbax = ocp.StandardCheckpointer(**options) if self.is_main else None
        if not self.writer:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for name in os.listdir(self.directory):
                if _SCRAP.fullmatch(name) and not (self.directory / name).is_symlink():
                    shutil.rmtree(self.directory / name)
        except OSError as error:
            raise CheckpointError(f"{self.directory} cannot be used: {_line(error)}") from error

    def save(
        self,
        step: int,
        state: TrainState,
        score: float | None = None,
        *,
        last_row: int | None = None,
        window: dict[str, Any] | None = None,
    ) -> None:
        """Starts an asynchronous save; all processes call it together.

        Args:
          step: its number.
          state: what to save; copied before this returns, so that it can be donated.
          score: to rank it by, lower is better. One that is not finite counts as None.
          last_row: step of the last row of metrics that was written.
          window: what is known of the steps since, of plain values.

        Raises:
          SaveError: when this save, or the one before it, failed.
        """
        if processes.is_multi_process():
            state = processes.gather_to_host(state)
        if self._orbax is None:
            return
        self.wait()
        if not self.directory.is_dir():  # or else Orbax waits for it, for minutes
            raise self._failed(FileNotFoundError("the folder is gone"))
        folder = self._saving = self._hidden("saving", step)
        try:
            self._orbax.save(folder / "state", state)
        except Exception as error:
            raise self._failed(error) from error
        complete = partial(digests.write, folder, step, score, last_row, window)
        self._finishing = self._pool.submit(self._finish, step, folder, complete)

    def _finish(self, step: int, folder: Path, complete: Callable[[], None]) -> None:
        assert self._orbax is not None
        self._orbax.wait_until_finished()
        self._orbax.check_for_errors()
        complete()
        if os.path.lexists(self.directory / str(step)):
            self._set_aside(step)
        folder.rename(self.directory / str(step))
        try:
            self._delete_old()
        except OSError as error:
            logger.warning("an old checkpoint could not be deleted: %s", _line(error))

    def _delete_old(self) -> None:
        """Deletes all but the latest and the best."""
        if self.keep is None:
            return
        steps = self.steps()
        scores = self._scores(steps)
        best = min(steps, key=lambda step: scores.get(step, math.inf))
        for step in steps[: -self.keep]:
            if (step != best or step not in scores) and digests.is_ours(self.directory / str(step)):
                hidden = self._hidden("deleting", step)  # what is half deleted has no step's name
                (self.directory / str(step)).rename(hidden)
                shutil.rmtree(hidden)

    def wait(self) -> None:
        """Waits for the save under way.

        Raises:
          SaveError: when it failed.
        """
        finishing, self._finishing = self._finishing, None
        try:
            if finishing:
                finishing.result()
        except Exception as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Waits, then releases the threads. A program that skips this can lose its last save.

        Raises:
          SaveError: when that save failed.
        """
        try:
            self.wait()
        finally:
            self._pool.shutdown()
            if self._orbax is not None:
                with suppress(Exception):  # it raises once more what wait has raised
                    self._orbax.close()

    def steps(self) -> list[int]:
        """The steps saved.

        Returns:
          Their numbers, damaged ones included, oldest first.

        Raises:
          ReadError: where the directory cannot be read at the moment.
        """
        try:
            return digests.steps(self.directory) if self.is_main else []
        except OSError as error:
            raise self._unreadable(self.directory, error) from error

    def best(self) -> int | None:
        """The best checkpoint.

        Returns:
          The step of the lowest score; None where no intact checkpoint has one.

        Raises:
          ReadError: where one cannot be read at the moment.
        """
        scores = self._scores(self.steps())
        ranked = sorted(scores, key=scores.__getitem__)
        return next((step for step in ranked if self.damage(step) is None), None)

    def _scores(self, steps: list[int]) -> dict[int, float]:
        try:
            found = {step: digests.score(self.directory / str(step)) for step in steps}
        except OSError as error:
            raise self._unreadable(self.directory, error) from error
        return {step: score for step, score in found.items() if score is not None}

    def damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint's files.

        Args:
          step: its number.

        Returns:
          The damage in words; None where it is intact.

        Raises:
          ReadError: where they cannot be read at the moment.
        """
        try:
            return digests.damage(self.directory / str(step))
        except OSError as error:
            raise self._unreadable(self.directory / str(step), error) from error

    def last_row(self, step: int) -> int:
        """How far the metrics must reach that belong to a checkpoint.

        Args:
          step: of the checkpoint, intact.

        Returns:
          The step of the last row; 0 where that is not known, as before the first step.
        """
        known = self.is_main and step in self.steps()
        return digests.last_row(self.directory / str(step)) if known else 0

    def window(self, step: int) -> Any:
        """What was known of the steps since the last row of metrics, at a checkpoint.

        Args:
          step: of the checkpoint, intact.

        Returns:
          What was saved; None where that is not known, as before the first step.
        """
        known = self.is_main and step in self.steps()
        return digests.window(self.directory / str(step)) if known else None

    def restore(
        self, like: TrainState, step: int | None = None, *, before: int | None = None
    ) -> TrainState | None:
        """The newest intact checkpoint, or that of a given step; all processes call it together.

        Each damaged checkpoint that is skipped is logged as a warning. Nothing is changed.

        Args:
          like: a state with the expected shapes, types and shardings.
          step: the one to restore; None for the newest intact one.
          before: only checkpoints of earlier steps.

        Returns:
          The state, laid out as `like`; None where there is none.

        Raises:
          CheckpointError: where the arrays have other names or shapes than expected, or cannot be
            loaded although their files are intact.
          ReadError: where files cannot be read at the moment.
        """
        self.wait()
        steps = (
            [s for s in self.steps() if before is None or s < before] if step is None else [step]
        )
        if not processes.is_multi_process():
            return self._newest(like, steps)
        blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        found = self._newest(blank, steps) if self.is_main else None
        if int(processes.maximum(-1 if found is None else 0)) < 0:
            return None
        return processes.broadcast_from_main(blank if found is None else found, like)

    def newest_step(self, like: TrainState | None = None) -> int:
        """The step that `restore` would resume at, without reading arrays.

        Args:
          like: a state with the expected shapes and types; None for any.

        Returns:
          The step of the newest intact checkpoint; 0 where there is none.

        Raises:
          CheckpointError: where its arrays have other names or shapes than expected.
          ReadError: where files cannot be read at the moment.
        """
        step = next((s for s in reversed(self.steps()) if self.damage(s) is None), 0)
        if step and like is not None:
            self._compare(step, like)
        return step

    def _newest(self, like: TrainState, steps: list[int]) -> TrainState | None:
        for candidate in reversed(steps):
            damage = self.damage(candidate)
            if damage is None:
                try:
                    self._compare(candidate, like)
                    state = self._load(candidate, like)
                    if int(state.step) == candidate:
                        return state
                    damage = f"it is the checkpoint of step {int(state.step):,}"
                except CheckpointError:
                    raise
                except Exception as error:
                    damage = self._unloaded(candidate, error)
            logger.warning("checkpoint %d is skipped: %s", candidate, damage)
        return None

    def _unloaded(self, step: int, error: Exception) -> str:
        """What is wrong with a checkpoint whose files were intact before it was loaded."""
        folder = self.directory / str(step)
        if isinstance(error, OSError) or "OS error" in str(error):  # the latter: tensorstore's
            raise self._unreadable(folder, error) from error
        damage = self.damage(step)
        if damage is None and self.writer:  # another Orbax, too little memory: no damage
            raise CheckpointError(
                f"{folder} is intact but cannot be loaded: {_line(error)}; nothing was changed"
            ) from error
        return damage or _line(error)

    def set_aside_after(self, step: int | None) -> None:
        """Renames the checkpoints that restore skipped, so that their steps can be saved again.

        Args:
          step: the one that was restored; None where there was none.

        Raises:
          CheckpointError: where there are checkpoints, but none was restored: nothing is changed.
        """
        if not self.writer:
            return
        steps = self.steps()
        if step is None:
            names = [n for n in os.listdir(self.directory) if _SET_ASIDE.fullmatch(n)]
            if found := [*map(str, steps), *sorted(names)]:
                raise CheckpointError(
                    f"no checkpoint in {self.directory} can be used ({', '.join(found[:5])}): "
                    "put a copy of one there, or start again from step 0 with --run.fresh, "
                    "which keeps them"
                )
        for newer in steps:
            if step is not None and newer > step:
                self._set_aside(newer)

    def _set_aside(self, step: int) -> None:
        target = files.unused(self.directory / f"{step}.damaged")
        (self.directory / str(step)).rename(target)
        logger.warning("%s is set aside as %s", self.directory / str(step), target.name)

    def _hidden(self, what: str, step: int) -> Path:
        return self.directory / f".{what}-{step}-{secrets.token_hex(8)}"

    def _load(self, step: int, like: TrainState) -> TrainState:
        assert self._orbax is not None

        def expected(x: Any) -> Any:
            # On the host, as NumPy's own, where there are several processes.
            if isinstance(x, np.ndarray):
                return x
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

        return self._orbax.restore(
            self.directory / str(step) / "state", jax.tree.map(expected, like)
        )

    def _compare(self, step: int, like: TrainState) -> None:
        saved = {leaf.name: leaf for leaf in jax.tree.leaves(self._outlines(step))}
        if different := weights.first_difference(saved, weights.named(like)):
            raise CheckpointError(
                f"{self.directory / str(step)} holds another architecture: {different}"
            )

    def _outlines(self, step: int) -> Tree:
        assert self._orbax is not None
        about: Any = self._orbax.metadata(self.directory / str(step) / "state")
        return about.item_metadata.tree

    def arrays(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint of any architecture.

        Args:
          step: its number; intact.

        Returns:
          {name: array}, named like "params.vae.decoder.params.Dense_0.kernel".
        """
        assert self._orbax is not None
        blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self._outlines(step))
        return weights.named(self._orbax.restore(self.directory / str(step) / "state", blank))

    def _failed(self, error: Exception) -> SaveError:
        if self._saving is not None:
            shutil.rmtree(self._saving, ignore_errors=True)
        return SaveError(
            f"a save to {self.directory} failed: {_line(error)}; earlier ones are as they were"
        )

    def _unreadable(self, path: Path, error: Exception) -> ReadError:
        what = error.strerror if isinstance(error, OSError) and error.strerror else _line(error)
        return ReadError(
            f"{path} cannot be read at the moment: {what}; nothing was changed, try again later"
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Orbax warns of what checkpoints of earlier versions keep one folder above."""
    return "Metadata file does not exist" not in record.getMessage()


logging.getLogger("absl").addFilter(_is_news)


def _line(error: BaseException) -> str:
    full = os.strerror(errno.ENOSPC)
    if full in str(error):
        return full
    return first_line(error)
