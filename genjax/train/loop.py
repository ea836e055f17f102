"""The loop: runs train steps, reads their metrics, evaluates, saves, and stops when asked."""

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

from genjax.errors import GenjaxError
from genjax.train import host_memory, processes, signals
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.state import TrainState
from genjax.train.step import StepMetrics

logger = logging.getLogger(__name__)

# Short enough that 80 columns leave room for the bar.
BAR = "{n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"
LOG_SECONDS = 20  # between lines of progress where there is no progress bar


class NonFiniteError(GenjaxError):
    """A loss or a gradient is NaN or infinite.

    Attributes:
      step: the step that would have been, counted from 1.
      metrics: names of the step's metrics that are not finite.
    """

    exit_code = 1

    def __init__(self, step: int, metrics: list[str]):
        super().__init__(f"{', '.join(metrics)} not finite at step {step:,}")
        self.step, self.metrics = step, metrics


class Stopped(GenjaxError):  # noqa: N818, a request, not an error
    """A signal asked the run to stop; the step is saved.

    Args:
      signum: number of the signal.
      step: the saved step.
    """

    def __init__(self, signum: int, step: int):
        name = signal.Signals(signum).name
        super().__init__(f"{name}, step {step:,} is saved: the same command resumes there")
        self.exit_code = 128 + signum
        self.at_once = name == "SIGHUP"  # a last flush to the terminal that is gone would fail


@dataclass(frozen=True)
class Plan:
    """How long to train, and what happens when.

    Attributes:
      steps: where training ends.
      every: steps between periodic evaluations, each followed by a checkpoint.
      log: steps between rows of metrics, each of one step, so that no stop changes a row.
      batch: images per step, over all processes.
      epoch: images per epoch.
    """

    steps: int
    every: int
    log: int
    batch: int
    epoch: int


TrainSteps = Callable[[TrainState, jax.Array, Any], tuple[TrainState, StepMetrics]]
PeriodicEval = Callable[[int, TrainState], tuple[dict[str, float], float | None]]


def raise_nonfinite(error: NonFiniteError) -> None:
    """The policy that ends the run at a step that is not finite.

    Args:
      error: what is not finite, and in which step.

    Raises:
      NonFiniteError: always.
    """
    raise error


def fit(
    train_steps: TrainSteps,
    layout: Layout,
    state: TrainState,
    key: jax.Array,
    batches: Iterator[Any],
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    writer: MetricsWriter,
    periodic_eval: PeriodicEval,
    on_nonfinite: Callable[[NonFiniteError], None] = raise_nonfinite,
) -> TrainState:
    """Trains from state.step to plan.steps.

    In the main thread SIGINT, SIGTERM and SIGHUP save and stop the run; a second signal ends the
    process at once. Of several processes a signal to any stops all at the same step.

    Args:
      train_steps: `layout.compile(game, …)`.
      layout: where batches are put.
      state: placed; its buffers are donated.
      key: of the train steps.
      batches: host arrays [n, B, ...] of n train steps each, the first for state.step; a multiple
        of plan.every ends one.
      plan: how long, and what happens when.
      checkpoints: where the state is saved after each periodic evaluation.
      writer: where metrics and scores go.
      periodic_eval: (step, state) -> (scores to log, the score to rank the checkpoint by), called
        every plan.every steps and at the end.
      on_nonfinite: called for each step that is not finite, before anything after it is saved; it
        raises, or returns to continue where the train steps skip such updates.

    Returns:
      The final state.

    Raises:
      Stopped: after saving, on SIGINT, SIGTERM or SIGHUP.
      NonFiniteError: where `on_nonfinite` raises it.
    """
    train_steps = host_memory.freeing(train_steps)
    step = saved = int(state.step)
    progress = _Progress(plan, step, writer, on_nonfinite)
    with _signals() as stop_signal, progress:
        while step < plan.steps:
            batch = next(batches)
            n = len(jax.tree.leaves(batch)[0])
            began = time.monotonic()
            state, metrics = train_steps(state, key, layout.feed(batch))
            step += n
            progress.enqueue(step, n, metrics, began)
            evaluating = step % plan.every == 0 or step == plan.steps
            stopping = stop_signal()
            if evaluating or stopping:
                progress.settle()
            if evaluating:
                scores, score = periodic_eval(step, state)
                progress.summary(step, scores)  # a checkpoint has all rows up to its step
                checkpoints.save(step, state, score, last_row=writer.last_row)
                saved = step
            elif stopping and saved != step:
                checkpoints.save(step, state, last_row=writer.last_row)
            if stopping:
                checkpoints.wait()
                raise Stopped(stopping, step)
    checkpoints.wait()
    return state


class _Progress:
    """Reads the metrics of each call one call late, so that the device never waits for the host."""

    def __init__(
        self,
        plan: Plan,
        step: int,
        writer: MetricsWriter,
        on_nonfinite: Callable[[NonFiniteError], None],
    ):
        self.plan, self.writer, self.on_nonfinite = plan, writer, on_nonfinite
        self.pending: tuple[int, int, StepMetrics] | None = None
        self.recent: list[dict[str, float]] = []
        self.images = self.seconds = self.timed_from = 0.0
        self.calls = self.reads = 0  # since the last pause
        self.is_main = processes.is_main_process()
        # None: tqdm looks whether it writes to a terminal. A notebook is none, and has its own bar.
        disable = not self.is_main or (False if issubclass(tqdm, tqdm_notebook) else None)
        self.bar = tqdm(
            total=plan.steps,
            initial=step,
            unit="step",
            disable=disable,
            dynamic_ncols=True,
            bar_format=BAR,
        )
        self.last_line = time.monotonic()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def enqueue(self, step: int, n: int, metrics: StepMetrics, began: float) -> None:
        if self.calls == 1:  # the first call after a pause may compile, and is not timed
            self.timed_from = began
        self.calls += 1
        previous, self.pending = self.pending, (step, n, metrics)
        if previous:
            self._read(*previous)

    def settle(self) -> None:
        """Reads what is pending, and pauses the clock for the evaluation that follows."""
        if self.pending:
            self._read(*self.pending)
        self.pending = None
        self.calls = self.reads = 0

    def _read(self, step: int, n: int, metrics: StepMetrics) -> None:
        values = {name: np.asarray(value) for name, value in metrics.items()}
        for i in range(n):
            this = step - n + i + 1
            finite = {name: float(v[i]) for name, v in values.items() if np.isfinite(v[i])}
            if bad := sorted(values.keys() - finite.keys()):
                self.on_nonfinite(NonFiniteError(this, bad))
            if this % self.plan.log == 0:
                self.writer.write(this, finite)
        row = _finite_means(values)
        self.recent.append(row)
        now = time.monotonic()
        if self.reads:
            self.images += n * self.plan.batch
            self.seconds = now - self.timed_from
        self.reads += 1
        self.bar.update(n)
        if not self.bar.disable:
            self.bar.set_postfix_str(f"{_short_losses(row)} {self._speed()}".rstrip())
        elif self.is_main and now - self.last_line > LOG_SECONDS:
            line = f"step {step:,} of {self.plan.steps:,}  {_losses(row)}  {self._speed()}"
            logger.info("%s", line)
            self.last_line = now

    def summary(self, step: int, scores: dict[str, float]) -> None:
        """Logs one line on what happened since the last, and starts the next stretch."""
        names = dict.fromkeys(name for row in self.recent for name in row)
        means = _finite_means(
            {k: np.array([row.get(k, np.nan) for row in self.recent]) for k in names}
        )
        if scores:
            self.writer.write(step, scores)
        if self.is_main:
            epoch = step * self.plan.batch / self.plan.epoch
            parts = [f"step {step:>6,} of {self.plan.steps:,}", f"epoch {epoch:.1f}"]
            parts.append(_losses(means))
            parts += [f"{name} {value:.4g}" for name, value in scores.items()]
            self.bar.clear()
            logger.info("%s", "  ".join([*parts, self._speed()]).rstrip())
        self.recent = []
        self.images = self.seconds = 0.0
        self.last_line = time.monotonic()

    def _speed(self) -> str:
        return f"{self.images / self.seconds:,.0f} images/s" if self.seconds else ""


def _losses(row: dict[str, float]) -> str:
    return "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k.endswith("/loss"))


def _short_losses(row: dict[str, float]) -> str:
    losses = {k.removesuffix("/loss"): v for k, v in row.items() if k.endswith("/loss")}
    if len(losses) == 1:
        return _losses(row)
    return " ".join(f"{player} {value:.3g}" for player, value in losses.items())


def _finite_means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Over the steps that were finite: `on_nonfinite` hears of the others."""
    finite = {name: value[np.isfinite(value)] for name, value in values.items()}
    return {name: float(value.mean()) for name, value in finite.items() if len(value)}


@contextmanager
def _signals() -> Iterator[Callable[[], int]]:
    """Yields a function to call after each call of the steps: the signal to stop for, else 0."""
    received = [0]
    noticed: list[int] = []
    votes: list[Any] = []

    def agreed() -> int:
        if not processes.is_multi_process():
            return received[0]
        # Read a call late, like the metrics, so that the device does not wait for the host.
        votes.append(processes.maximum(received[0]))
        return int(votes.pop(0)) if len(votes) > 1 else 0

    def receive(signum: int, _frame: object) -> None:
        received[0] = signum
        for each in signals.STOPPING:
            if signal.getsignal(each) is receive:
                signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once

    def notice(signum: int) -> None:
        if noticed:  # and the main thread has not even received the first one
            os._exit(128 + signum)
        noticed.append(signum)
        logger.warning("%s: saving…", signal.Signals(signum).name)

    with signals.handled(receive, notice):
        yield agreed


def largest_scan_steps(every: int, most: int) -> int:
    """How many train steps to compile together so that no call crosses an evaluation.

    Args:
      every: steps between periodic evaluations.
      most: the most train steps in one call.

    Returns:
      The largest number up to `most` that divides `every`.
    """
    small = (n for n in range(1, math.isqrt(every) + 1) if every % n == 0)
    return max(n for divisor in small for n in (divisor, every // divisor) if n <= most)
