"""The loop: runs train steps, reads their metrics, evaluates, saves, and stops when asked."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from genjax.errors import GenjaxError
from genjax.train import host_memory, processes, signals, waiting
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import CompiledSteps, Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.plan import Plan
from genjax.train.progress import Progress
from genjax.train.state import TrainState
from genjax.train.window import Window

logger = logging.getLogger(__name__)


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
    train_steps: CompiledSteps,
    layout: Layout,
    state: TrainState,
    key: jax.Array,
    batches: Iterator[Any],
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    writer: MetricsWriter,
    window: Window,
    periodic_eval: PeriodicEval,
    draw: Callable[[int, TrainState], None] = lambda step, state: None,
    after_eval: Callable[[], None] = lambda: None,
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
      window: the steps since the last row of metrics, kept with each checkpoint.
      periodic_eval: (step, state) -> (scores to log, the score to rank the checkpoint by), called
        every plan.every steps and at the end.
      draw: (step, state), called at plan.first_images.
      after_eval: called after each periodic evaluation, once its scores are written.
      on_nonfinite: called for each step that is not finite, before anything after it is saved; it
        raises, or returns to continue where the train steps skip such updates.

    Returns:
      The final state.

    Raises:
      Stopped: after saving, on SIGINT, SIGTERM or SIGHUP.
      NonFiniteError: where `on_nonfinite` raises it.
    """
    step = saved = int(state.step)
    compiled: set[int] = set()  # numbers of steps in a call

    def save(score: float | None = None) -> None:  # with all rows up to its step
        checkpoints.save(step, state, score, last_row=writer.last_row, window=window.as_dict())

    def nonfinite(step: int, metrics: list[str]) -> None:
        on_nonfinite(NonFiniteError(step, metrics))

    progress = Progress(plan, step, writer, window, nonfinite)
    with _signals() as stop_signal, progress:
        while step < plan.steps:
            batch = next(batches)
            n = len(jax.tree.leaves(batch)[0])
            batch = layout.feed(batch)
            if n not in compiled:
                compiled.add(n)
                progress.settle()
                with waiting.announced("compiling the train steps"), host_memory.compiling():
                    train_steps.prepare(state, key, batch)
            progress.resume()
            state, metrics = train_steps(state, key, batch)
            step += n
            progress.enqueue(step, n, metrics)
            evaluating = step % plan.every == 0 or step == plan.steps
            stopping = stop_signal()
            if evaluating or stopping or step == plan.first_images:
                progress.settle()
            if step == plan.first_images:
                with waiting.announced("drawing images", logged=False):
                    draw(step, state)
            if evaluating:
                with waiting.announced("evaluating", logged=False):
                    scores, score = periodic_eval(step, state)
                progress.summary(step, scores)
                save(score)
                saved = step
                after_eval()
            elif stopping and saved != step:
                save()
            if stopping:
                checkpoints.wait()
                raise Stopped(stopping, step)
    checkpoints.wait()
    return state


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
