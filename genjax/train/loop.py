"""The loop: dispatches steps, watches their numbers, saves, and stops when asked."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from genjax.train import host_memory, processes
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import Dispatch, Layout
from genjax.train.metrics import MetricsWriter
from genjax.train.state import TrainState


class NonFiniteError(Exception):
    """A loss or a gradient is NaN or infinite: `names`, in the step that would have been `step`."""

    exit_code = 1

    def __init__(self, step: int, names: list[str]):
        super().__init__(f"{', '.join(names)} not finite at step {step:,}")
        self.step, self.names = step, names


class Stopped(Exception):  # noqa: N818, a request, not an error
    """A signal asked the run to stop; the step is saved."""

    def __init__(self, signum: int, step: int):
        super().__init__(f"{signal.Signals(signum).name}, step {step:,} is saved")
        self.exit_code = 128 + signum


@dataclass(frozen=True)
class Plan:
    """steps: where training ends. every: steps between visits (summary, pictures, checkpoint).
    log: steps between rows of metrics, each of one step, so that no stop changes a row. batch:
    images in a step, over all processes; epoch: images in an epoch.
    """

    steps: int
    every: int
    log: int
    batch: int
    epoch: int


Visit = Callable[[int, TrainState], tuple[dict[str, float], float | None]]
Fault = Callable[[NonFiniteError], None]


def refuse(fault: NonFiniteError) -> None:
    """The answer to a step that is not finite that ends the run."""
    raise fault


def fit(
    dispatch: Dispatch,
    layout: Layout,
    state: TrainState,
    key: jax.Array,
    batches: Iterator[Any],
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    metrics: MetricsWriter,
    visit: Visit,
    fault: Fault = refuse,
) -> TrainState:
    """Trains from state.step to plan.steps and returns the final state.

    batches: host arrays [n, B, ...], n steps a dispatch, the first for state.step; a multiple of
    plan.every ends one. visit(step, state), every plan.every steps and at the end, returns numbers
    to report and the score to rank the checkpoint by. fault(NonFiniteError), for each step that is
    not finite, before anything after it is saved: it raises, or returns to go on where the dispatch
    skips such updates. Raises Stopped after saving, on SIGINT or SIGTERM; a second signal ends the
    process at once. Of several processes a signal to any stops all at the same step.
    """
    dispatch = host_memory.freeing(dispatch)
    step = saved = int(state.step)
    watch = _Watch(plan, step, metrics, fault)
    with _signals() as asked, watch:
        while step < plan.steps:
            batch = next(batches)
            n = len(jax.tree.leaves(batch)[0])
            state, told = dispatch(state, key, layout.feed(batch))
            step += n
            watch.dispatched(step, n, told)
            visiting = step % plan.every == 0 or step == plan.steps
            stopping = asked()
            if visiting or stopping:
                watch.settle()
            if visiting:
                numbers, score = visit(step, state)
                checkpoints.save(step, state, score)
                saved = step
                watch.summary(step, numbers)
            elif stopping and saved != step:
                checkpoints.save(step, state)
            if stopping:
                checkpoints.wait()
                raise Stopped(stopping, step)
    checkpoints.wait()
    return state


class _Watch:
    """Reads each dispatch's metrics one dispatch late, so that the device never waits for it."""

    def __init__(self, plan: Plan, step: int, metrics: MetricsWriter, fault: Fault):
        self.plan, self.metrics, self.fault = plan, metrics, fault
        self.pending: tuple[int, int, dict[str, jax.Array]] | None = None
        self.recent: list[dict[str, float]] = []
        self.images = self.seconds = 0.0
        self.last: tuple[int, float] | None = None
        self.speaks = processes.is_main_process()
        self.live = self.speaks and sys.stderr.isatty()
        self.bar = tqdm(
            total=plan.steps, initial=step, unit="step", disable=not self.live, dynamic_ncols=True
        )
        self.spoke = time.monotonic()

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def dispatched(self, step: int, n: int, told: dict[str, jax.Array]) -> None:
        previous, self.pending = self.pending, (step, n, told)
        if previous:
            self._read(*previous)

    def settle(self) -> None:
        """Reads what is pending, and pauses the clock for the visit that follows."""
        if self.pending:
            self._read(*self.pending)
        self.pending = self.last = None

    def _read(self, step: int, n: int, told: dict[str, jax.Array]) -> None:
        values = {name: np.asarray(value) for name, value in told.items()}
        for i in range(n):
            this = step - n + i + 1
            finite = {name: float(v[i]) for name, v in values.items() if np.isfinite(v[i])}
            if bad := sorted(values.keys() - finite.keys()):
                self.fault(NonFiniteError(this, bad))
            if this % self.plan.log == 0:
                self.metrics.write(this, finite)
        row = _finite_means(values)
        self.recent.append(row)
        now = time.monotonic()
        if self.last:  # the first interval after a pause holds compilation or a visit
            self.images += n * self.plan.batch
            self.seconds += now - self.last[1]
        self.last = (step, now)
        self.bar.update(n)
        if self.live:
            self.bar.set_postfix_str(f"{_losses(row)} {self._speed()}".rstrip())
        elif self.speaks and now - self.spoke > 20:
            print(f"step {step:,} of {self.plan.steps:,}  {_losses(row)}  {self._speed()}")
            self.spoke = now

    def summary(self, step: int, numbers: dict[str, float]) -> None:
        """One line on what happened since the last; starts the next stretch."""
        names = dict.fromkeys(name for row in self.recent for name in row)
        means = _finite_means(
            {k: np.array([row.get(k, np.nan) for row in self.recent]) for k in names}
        )
        self.metrics.write(step, numbers)
        if self.speaks:
            epoch = step * self.plan.batch / self.plan.epoch
            parts = [f"step {step:>6,} of {self.plan.steps:,}", f"epoch {epoch:.1f}"]
            parts.append(_losses(means))
            parts += [f"{name} {value:.4g}" for name, value in numbers.items()]
            self.bar.clear()
            print("  ".join([*parts, self._speed()]).rstrip(), flush=True)
        self.recent = []
        self.images = self.seconds = 0.0
        self.spoke = time.monotonic()

    def _speed(self) -> str:
        return f"{self.images / self.seconds:,.0f} images/s" if self.seconds else ""


def _losses(row: dict[str, float]) -> str:
    return "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k.endswith("/loss"))


def _finite_means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Over the steps that were finite: the others are told as faults."""
    finite = {name: value[np.isfinite(value)] for name, value in values.items()}
    return {name: float(value.mean()) for name, value in finite.items() if len(value)}


@contextmanager
def _signals() -> Iterator[Callable[[], int]]:
    """Yields a function to call after each dispatch: the signal to stop for, 0 for none."""
    received = [0]
    votes: list[Any] = []

    def agreed() -> int:
        if not processes.is_multi_process():
            return received[0]
        # Read a dispatch late, like the metrics, so that the device does not wait for the host.
        votes.append(processes.maximum(received[0]))
        return int(votes.pop(0)) if len(votes) > 1 else 0

    def receive(signum: int, _frame) -> None:
        received[0] = signum
        for each in previous:
            signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once

    previous = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in previous:
        signal.signal(each, receive)
    try:
        yield agreed
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def divisor(every: int, most: int) -> int:
    """The largest number of steps up to `most` that divides `every`."""
    return max(n for n in range(1, most + 1) if every % n == 0)
