"""What the loop knows of its steps: rows of metrics, the progress bar, a line per evaluation."""

import logging
import math
import time
from collections.abc import Callable, Mapping

import numpy as np
from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

from genjax.train import processes
from genjax.train.metrics import MetricsWriter
from genjax.train.plan import Plan
from genjax.train.step import StepMetrics
from genjax.train.window import Window

logger = logging.getLogger(__name__)

# Short enough that 80 columns leave room for the bar.
BAR = "{n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"
LOG_SECONDS = 20  # between lines of progress where there is no progress bar


def hidden() -> bool | None:
    """Whether bars are hidden, as tqdm takes it.

    Returns:
      True or False; None where tqdm looks whether it writes to a terminal.
    """
    # A notebook is no terminal, and has a bar of its own.
    notebook = False if issubclass(tqdm, tqdm_notebook) else None
    return notebook if processes.is_main_process() else True


class Progress:
    """Reads the metrics of each call one call late, so that the device never waits for the host.

    Args:
      plan: how long, and what happens when.
      step: completed train steps.
      writer: where rows go.
      window: the steps since the row before.
      on_nonfinite: called with each step that is not finite, counted from 1, and the names of its
        metrics that are not.
      clock: seconds from any moment on.
    """

    def __init__(
        self,
        plan: Plan,
        step: int,
        writer: MetricsWriter,
        window: Window,
        on_nonfinite: Callable[[int, list[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.plan, self.writer, self.window = plan, writer, window
        self.on_nonfinite, self.clock = on_nonfinite, clock
        self.pending: tuple[int, int, StepMetrics] | None = None
        self.recent: list[dict[str, float]] = []
        self.images = self.seconds = 0.0
        self.timed_to: float | None = None  # None: the clock is paused
        self.is_main = processes.is_main_process()
        self.bar = tqdm(
            total=plan.steps,
            initial=step,
            unit="step",
            disable=hidden(),
            dynamic_ncols=True,
            bar_format=BAR,
        )
        self.last_line = self.clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def resume(self) -> None:
        """Lets the clock run on, if it is paused: what follows is training."""
        if self.timed_to is None:
            self.timed_to = self.clock()

    def enqueue(self, step: int, n: int, metrics: StepMetrics) -> None:
        """Notes a call that is under way, and reads the one before it.

        Args:
          step: completed train steps after the call.
          n: steps of the call.
          metrics: {name: [n]}.
        """
        previous, self.pending = self.pending, (step, n, metrics)
        if previous:
            self._read(*previous)

    def settle(self) -> None:
        """Reads what is pending, and pauses the clock: what follows is no training."""
        if self.pending:
            self._read(*self.pending)
        self.pending = self.timed_to = None
        self.bar.clear()  # what is printed next has a line of its own

    def _read(self, step: int, n: int, metrics: StepMetrics) -> None:
        values = {name: np.asarray(value).astype(np.float64) for name, value in metrics.items()}
        now = self.clock()
        assert self.timed_to is not None  # resumed before the call
        seconds, self.timed_to = now - self.timed_to, now
        rows = zip(*(value.tolist() for value in values.values()), strict=True)
        for this, row in enumerate(rows, step - n + 1):
            self._add(this, dict(zip(values, row, strict=True)), seconds / n)
        means = _finite_means(values)
        self.recent.append(means)
        self.images += n * self.plan.batch
        self.seconds += seconds
        self.bar.update(n)
        if not self.bar.disable:
            self.bar.set_postfix_str(f"{_short_losses(means)} {self._speed()}".rstrip())
        elif self.is_main and now - self.last_line > LOG_SECONDS:
            line = f"step {step:,} of {self.plan.steps:,}  {_losses(means)}  {self._speed()}"
            logger.info("%s", line)
            self.last_line = now

    def _add(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if bad := sorted(values.keys() - finite.keys()):
            self.bar.clear()
            self.on_nonfinite(step, bad)
        self.window.add(finite, self.plan.batch, seconds)
        ended = step % self.plan.log == 0
        if ended or step == self.plan.steps:
            self.writer.write(step, self.window.row(), ended=ended)
        if ended:
            self.window.restart(step)

    def summary(self, step: int, scores: Mapping[str, float]) -> None:
        """Logs one line on what happened since the last, and writes the scores.

        Args:
          step: of the evaluation.
          scores: {name: score}.
        """
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
            parts += [f"{k} {v:.4g}" for k, v in scores.items() if not k.startswith("alarm/")]
            logger.info("%s", "  ".join([*parts, self._speed()]).rstrip())
        self.recent = []
        self.images = self.seconds = 0.0
        self.last_line = self.clock()

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
