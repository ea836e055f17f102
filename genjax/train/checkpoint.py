"""Checkpoints of a run: Orbax underneath, sha256 digests on top; the latest and the best remain."""

import errno
import json
import logging
import math
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from genjax.errors import GenjaxError, first_line
from genjax.train import digests, processes
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)

SCORE = "metrics/metrics"  # where in a checkpoint Orbax writes it


class CheckpointError(GenjaxError):
    """A checkpoint cannot be saved or restored; the message is one line."""


class SaveError(CheckpointError):
    """A checkpoint could not be written; the earlier ones are as they were."""

    at_once = True  # the threads of the failed save fail once more at a normal exit


class Checkpoints:
    """The checkpoints in one directory.

    A checkpoint counts only once its digests are written, after Orbax committed it: Orbax detects
    no flipped byte, and deletes non-atomically. Of several processes the first alone reads and
    writes; the others take part in save and restore, which all of them call together.

    Args:
      directory: where; made absolute, because Orbax resolves it later, in a thread.
      keep: how many of the latest to keep, beside the one of the lowest score.
      read_only: leave everything as it is, for looking into a run that may be under way.

    Raises:
      CheckpointError: where the directory cannot be used.
    """

    def __init__(self, directory: str | Path, keep: int = 2, *, read_only: bool = False):
        self.directory = Path(directory).absolute()
        self.writer = processes.is_main_process() and not read_only
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._finishing: Future[None] | None = None
        self._manager = self._open(keep, read_only) if processes.is_main_process() else None

    def _open(self, keep: int, read_only: bool) -> ocp.CheckpointManager:
        alone = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="genjax"
        )
        distributed = {"multiprocessing_options": alone} if processes.is_multi_process() else {}
        latest_and_best = policies.AnyPreservationPolicy(
            [
                policies.LatestN(keep),
                policies.BestN(
                    get_metric_fn=lambda metrics: -_score(metrics),
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            # LatestN beside BestN: alone, max_to_keep with best_fn deletes the latest, and BestN
            # without best_fn forgets its metrics at a restart.
            best_fn=_score,
            best_mode="min",
            preservation_policy=latest_and_best,
            read_only=read_only,
            create=False,
            cleanup_tmp_directories=not read_only,
            **distributed,
        )
        try:
            if self.writer:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._remove_incomplete()
            return _Manager(
                self.directory,
                options=options,
                item_handlers={"state": ocp.StandardCheckpointHandler(**distributed)},
            )
        except Exception as error:
            raise CheckpointError(f"{self.directory} cannot be used: {_line(error)}") from error

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Starts an asynchronous save; all processes call it together.

        Args:
          step: its number.
          state: what to save; copied before this returns, so that it can be donated.
          score: to rank it by, lower is better. One that is not finite counts as None, as Orbax
            would rank a NaN above the true best.

        Raises:
          SaveError: when this save, or the one before it, failed.
        """
        if processes.is_multi_process():
            state = processes.gather_to_host(state)
        if self._manager is None:
            return
        metrics = {"score": float(score)} if score is not None and math.isfinite(score) else None
        self.wait()
        if not self.directory.is_dir():  # or else Orbax waits for it, for minutes
            raise self._failed(FileNotFoundError("the folder is gone"))
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
                metrics=metrics,
                force=True,
            )
        except Exception as error:
            raise self._failed(error) from error
        self._finishing = self._pool.submit(self._finish, step)

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
            if self._manager is not None:
                with suppress(Exception):  # it raises once more what wait has raised
                    self._manager.close()

    def steps(self) -> list[int]:
        """The steps saved.

        Returns:
          Their numbers, damaged ones included, oldest first.
        """
        return sorted(self._manager.all_steps()) if self._manager else []

    def best(self) -> int | None:
        """The best checkpoint.

        Returns:
          The step of the lowest score; None where no intact checkpoint has one.
        """
        scores = {}
        for step in self.steps():
            folder = self.directory / str(step)
            if (folder / SCORE).is_file() and not digests.damage(folder, SCORE):
                scores[step] = _score(json.loads((folder / SCORE).read_text()))
        ranked = sorted(scores, key=scores.__getitem__)
        return next((step for step in ranked if self.damage(step) is None), None)

    def damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint's files.

        Args:
          step: its number.

        Returns:
          The damage in words; None where it is intact.
        """
        return digests.damage(self.directory / str(step))

    def restore(
        self, like: TrainState, step: int | None = None, *, before: int | None = None
    ) -> TrainState | None:
        """The newest intact checkpoint, or that of a given step; all processes call it together.

        Each damaged checkpoint that is skipped is logged as a warning.

        Args:
          like: a state with the expected shapes, types and shardings.
          step: the one to restore; None for the newest intact one.
          before: only checkpoints of earlier steps.

        Returns:
          The state, laid out as `like`; None where there is none.

        Raises:
          CheckpointError: where the arrays have other names or shapes than expected.
        """
        self.wait()
        steps = (
            [s for s in self.steps() if before is None or s < before] if step is None else [step]
        )
        if not processes.is_multi_process():
            return self._newest(like, steps)
        blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        found = self._newest(blank, steps) if self._manager else None
        if int(processes.maximum(-1 if found is None else 0)) < 0:
            return None
        return processes.broadcast_from_main(blank if found is None else found, like)

    def _newest(self, like: TrainState, steps: list[int]) -> TrainState | None:
        for candidate in reversed(steps):
            damage = self.damage(candidate)
            if damage is None:
                try:
                    self._compare(candidate, like)
                    return self._load(candidate, like)
                except CheckpointError:
                    raise
                except Exception as error:
                    damage = _line(error)
            logger.warning("checkpoint %d is skipped: %s", candidate, damage)
        return None

    def discard_after(self, step: int | None) -> None:
        """Deletes the checkpoints that restore skipped, so that their steps can be saved again.

        Args:
          step: the one that was restored; None to delete all.
        """
        for newer in self.steps():
            if self._manager and (step is None or newer > step):
                self._manager.delete(newer)

    def _load(self, step: int, like: TrainState) -> TrainState:
        assert self._manager is not None

        def expected(x: Any) -> Any:
            # On the host, as NumPy's own, where there are several processes.
            if isinstance(x, np.ndarray):
                return x
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

        args = ocp.args.Composite(state=ocp.args.StandardRestore(jax.tree.map(expected, like)))
        return self._manager.restore(step, args=args).state

    def _compare(self, step: int, like: TrainState) -> None:
        assert self._manager is not None
        saved = {
            leaf.name: f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
            for leaf in jax.tree.leaves(self._manager.item_metadata(step).state.tree)
        }
        expected = {
            jax.tree_util.keystr(
                path, simple=True, separator="."
            ): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(like)
        }
        for name in sorted(saved.keys() | expected.keys()):
            if saved.get(name) != expected.get(name):
                raise CheckpointError(
                    f"{self.directory / str(step)} holds another architecture: {name} is "
                    f"{saved.get(name, 'absent')} there and {expected.get(name, 'absent')} here"
                )

    def _remove_incomplete(self) -> None:
        """A save that was killed before its digests, or a half-deleted one, is no checkpoint."""
        for folder in self.directory.glob("[0-9]*"):
            if folder.name.isdecimal() and folder.is_dir() and not (folder / digests.NAME).exists():
                shutil.rmtree(folder)

    def _failed(self, error: Exception) -> SaveError:
        return SaveError(
            f"a save to {self.directory} failed: {_line(error)}; earlier ones are as they were"
        )

    def _finish(self, step: int) -> None:
        assert self._manager is not None
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        if self.writer:
            digests.write(self.directory / str(step))


class _Manager(ocp.CheckpointManager):
    def metrics(self, step: int) -> Any:
        """Treats a corrupted score as missing: it would end the manager's start, or rank."""
        folder = Path(self.directory) / str(step)
        return None if digests.damage(folder, SCORE) else super().metrics(step)


def _is_news(record: logging.LogRecord) -> bool:
    """Orbax warns at each save without a score, which is as good a save as any."""
    return "did not provide metrics" not in record.getMessage()


logging.getLogger("absl").addFilter(_is_news)


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _line(error: BaseException) -> str:
    full = os.strerror(errno.ENOSPC)
    if full in str(error):
        return full
    return first_line(error)
