"""The loop: evaluations, rows, steps that are not finite, signals and threads."""

import logging
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tqdm.notebook import tqdm_notebook

from genjax.files import read_rows
from genjax.train import digests, loop, progress
from genjax.train.checkpoint import Checkpoints
from genjax.train.game import Aux, Player, initial_state
from genjax.train.layout import DataParallel
from genjax.train.loop import NonFiniteError, Stopped, fit
from genjax.train.metrics import MetricsWriter
from genjax.train.plan import Plan, first_images, largest_scan_steps
from genjax.train.progress import Progress
from genjax.train.window import Window
from tests.logged import metrics


def loss(params, state, keys, batch):
    noise = jax.vmap(jax.random.normal)(keys)
    return jnp.mean((params["p"] - batch["x"] + noise) ** 2), Aux({"x": jnp.mean(batch["x"])})


GAME = {"p": Player(loss, optax.adam(0.1))}


def batches(start, steps, scan_steps=1, poison=None, signal_at=(None, None)):
    """Step i gets the number i, or NaN at `poison`; at signal_at[0] the process gets a signal."""
    x = np.arange(start, steps, dtype=np.float32)
    if poison is not None:
        x[x == poison] = np.nan
    for i in range(0, len(x), scan_steps):
        if start + i == signal_at[0]:
            os.kill(os.getpid(), signal_at[1])
        yield {"x": np.repeat(x[i : i + scan_steps, None], 4, axis=1)}


class Run:
    def __init__(self, directory, steps=10, every=5, scan_steps=1, log=1):
        self.directory, self.scan_steps = directory, scan_steps
        self.plan = Plan(steps, every, log, batch=4, epoch=20)
        self.evaluated = []

    def go(self, stream=None, **faults):
        layout = DataParallel(1)
        checkpoints = Checkpoints(self.directory / "checkpoints")
        state = layout.place(initial_state(GAME, {"p": jnp.zeros(())}, {}))
        state = checkpoints.restore(state) or state
        start = int(state.step)
        window = Window.from_dict(checkpoints.window(start), start)
        writer = MetricsWriter(
            self.directory,
            start,
            enabled=True,
            keep_row=lambda row: "test/p" in row or row["step"] <= window.start,
            last_row=checkpoints.last_row(start),
        )

        def periodic_eval(step, state):
            self.evaluated.append(step)
            return {"test/p": float(state.params["p"])}, float(step)

        try:
            return fit(
                layout.compile(GAME, scan_steps=self.scan_steps),
                layout,
                state,
                jax.random.key(0),
                stream or batches(start, self.plan.steps, self.scan_steps, **faults),
                self.plan,
                checkpoints=checkpoints,
                writer=writer,
                window=window,
                periodic_eval=periodic_eval,
            )
        finally:
            writer.close()
            checkpoints.close()


def saved(directory):
    return Checkpoints(directory / "checkpoints", read_only=True).steps()


@pytest.mark.parametrize("scan_steps", [1, 5])
def test_it_evaluates_saves_and_logs_at_its_intervals(tmp_path, scan_steps):
    run = Run(tmp_path, steps=12, every=5, scan_steps=scan_steps)
    assert int(run.go().step) == 12
    assert run.evaluated == [5, 10, 12]
    assert saved(tmp_path) == [5, 10, 12]  # the best, with the lowest score, and the latest two
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if "p/x" in row]
    # A row is of one step, whatever the length of a dispatch.
    assert [(row["step"], row["p/x"]) for row in rows] == [(s, s - 1.0) for s in range(1, 13)]


def test_a_terminal_alone_is_told_of_each_evaluation(tmp_path, monkeypatch):
    told = []

    def announced(what, logged=True):
        told.append((what, logged))
        return nullcontext()

    monkeypatch.setattr(loop.waiting, "announced", announced)
    run = Run(tmp_path, steps=12, every=6)
    run.plan = Plan(12, 6, 1, batch=4, epoch=20, first_images=2)
    run.go()
    once = [each for each in told if each[0] in ("drawing images", "evaluating")]
    assert once == [("drawing images", False), *[("evaluating", False)] * 2]


def rows_of(directory, name="p/x"):
    return [(row["step"], row[name]) for row in metrics(directory) if name in row]


@pytest.mark.parametrize(("every", "scan_steps"), [(5, 1), (5, 5), (12, 4), (7, 7)])
def test_rows_are_means_at_a_spacing_of_their_own(tmp_path, every, scan_steps):
    Run(tmp_path, steps=14, every=every, scan_steps=scan_steps, log=4).go()
    # Step s sees the number s - 1. The last row is of what was left at the end.
    assert rows_of(tmp_path) == [(4, 1.5), (8, 5.5), (12, 9.5), (14, 12.5)]


@pytest.mark.parametrize("stop", [5, 8])
def test_a_run_stopped_between_two_rows_has_the_rows_of_one_uninterrupted(tmp_path, stop, caplog):
    folders = [tmp_path / name for name in ("uninterrupted", "by a signal", "at its end")]
    for folder in folders:
        folder.mkdir()
    Run(folders[0], steps=14, every=7, log=4).go()
    with pytest.raises(Stopped):
        Run(folders[1], steps=14, every=7, log=4).go(signal_at=(stop - 1, signal.SIGTERM))
    Run(folders[2], steps=stop, every=7, log=4).go()
    assert rows_of(folders[2])[-1][0] == stop
    caplog.clear()
    for folder in folders[1:]:
        Run(folder, steps=14, every=7, log=4).go()
        assert rows_of(folder) == rows_of(folders[0])
        assert rows_of(folder, "p/loss") == rows_of(folders[0], "p/loss")
    assert "rows are missing" not in caplog.text


def test_a_changed_spacing_keeps_the_rows_before_and_leaves_out_no_step(tmp_path):
    Run(tmp_path, steps=6, every=6, log=4).go()
    Run(tmp_path, steps=9, every=6, log=3).go()
    assert rows_of(tmp_path) == [(4, 1.5), (9, 6.0)]


def test_the_first_row_after_a_checkpoint_of_an_earlier_version_begins_there(tmp_path):
    Run(tmp_path, steps=6, every=6, log=1).go()
    folder = tmp_path / "checkpoints" / "6"
    (folder / digests.WINDOW).unlink()
    digests.write(folder, 6)
    Run(tmp_path, steps=10, every=6, log=4).go()
    assert rows_of(tmp_path) == [*((s, s - 1.0) for s in range(1, 7)), (8, 6.5), (10, 8.5)]


def test_a_row_counts_the_time_of_training_alone(tmp_path):
    now = [0.0]
    plan = Plan(steps=6, every=4, log=2, batch=8, epoch=20)
    writer = MetricsWriter(tmp_path, 0, enabled=True)
    progress = Progress(plan, 0, writer, Window(0), print, clock=lambda: now[0])

    def call(step, seconds, n=1):
        progress.resume()
        progress.enqueue(step, n, {"p/loss": np.ones(n)})
        now[0] += seconds

    call(1, 1.0)
    call(2, 2.0)
    call(4, 4.0, n=2)
    progress.settle()
    now[0] += 100.0  # an evaluation
    call(6, 8.0, n=2)
    progress.settle()
    writer.close()
    rows = read_rows(tmp_path / "metrics.jsonl")
    # A call is read after the next one has started: what a step takes is what lies in between.
    assert [(row["seconds"], row["images_per_second"]) for row in rows] == [
        (3.0, 16 / 3),
        (4.0, 4.0),
        (8.0, 2.0),
    ]


def test_a_non_finite_loss_stops_the_run_and_the_last_finite_checkpoint_remains(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(NonFiniteError, match=r"p/loss.* not finite at step 8"):
        run.go(poison=7)
    assert saved(tmp_path) == [5]
    assert run.evaluated == [5]


def test_a_non_finite_step_inside_a_dispatch_is_reported_by_its_number(tmp_path):
    with pytest.raises(NonFiniteError, match="not finite at step 8"):
        Run(tmp_path, scan_steps=5).go(poison=7)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_stops_and_the_run_resumes_from_there(
    tmp_path, number, code, caplog, request
):
    before = signal.getsignal(number)  # SIGHUP is ignored under nohup
    request.addfinalizer(lambda: signal.signal(number, before))
    signal.signal(number, signal.default_int_handler)
    for name in ("uninterrupted", "cut"):
        (tmp_path / name).mkdir()
    uninterrupted = Run(tmp_path / "uninterrupted").go()
    cut, handler = Run(tmp_path / "cut"), signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        cut.go(signal_at=(3, number))
    assert stopped.value.exit_code == code
    assert f"{signal.Signals(number).name}: saving…" in caplog.messages
    assert saved(tmp_path / "cut") == [4]
    assert signal.getsignal(number) is handler
    resumed = Run(tmp_path / "cut").go()
    jax.tree.map(np.testing.assert_array_equal, resumed, uninterrupted)
    assert metrics(tmp_path / "uninterrupted") == metrics(tmp_path / "cut")


def test_a_second_signal_has_its_default_effect(tmp_path):
    """While the first is handled, the next has its default effect: the process ends."""

    def twice():
        for batch in batches(0, 10):
            if batch["x"][0, 0] == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
                assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            yield batch

    with pytest.raises(Stopped):
        Run(tmp_path).go(stream=twice())


LONG = """
import hashlib, os
from genjax.train import signals

def handler(signum, frame):
    os.write(1, b"handled\\n")

def notice(signum):
    os.write(1, b"noticed\\n")

with signals.handled(handler, notice):
    os.write(1, b"ready\\n")
    # One instruction, as a compiled program is, in which no handler runs.
    hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)
    os.write(1, b"computed\\n")
"""


def test_a_signal_is_noticed_inside_a_long_computation():
    with subprocess.Popen(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        lines = process.stdout.read().split()
    assert process.returncode == 0
    assert sorted(lines) == ["computed", "handled", "noticed"]
    assert lines.index("noticed") < lines.index("computed")


def test_a_second_signal_inside_a_long_computation_ends_the_process(monkeypatch):
    """Nobody runs the handlers then: `notice` does it, from the thread that waits for signals."""
    codes = []

    @contextmanager
    def handled(_receive, notice):
        notice(signal.SIGTERM)
        assert codes == []
        notice(signal.SIGTERM)
        yield

    monkeypatch.setattr(loop.signals, "handled", handled)
    monkeypatch.setattr(os, "_exit", codes.append)
    with loop._signals():
        assert codes == [143]


def test_it_trains_in_another_thread_and_leaves_the_signals_alone(tmp_path):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with ThreadPoolExecutor(1) as pool:
        state = pool.submit(Run(tmp_path, steps=2).go).result()
    assert int(state.step) == 2
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_line_is_logged_at_each_evaluation_and_nothing_is_printed(tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO, "genjax.train.progress"):
        Run(tmp_path, steps=10, every=5).go()
    first, last = [record.getMessage() for record in caplog.records]
    measured = r"p/loss [\d.]+  test/p [\d.]+(  [\d,]+ images/s)?"
    assert re.fullmatch(rf"step      5 of 10  epoch 1\.0  {measured}", first)
    assert re.fullmatch(rf"step     10 of 10  epoch 2\.0  {measured}", last)
    assert capsys.readouterr() == ("", "")


def test_progress_is_logged_between_evaluations(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", -1)
    with caplog.at_level(logging.INFO, "genjax.train.progress"):
        Run(tmp_path, steps=3, every=3).go()
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split("  ")[0] for line in lines[:3]] == [f"step {n} of 3" for n in (1, 2, 3)]


def test_between_evaluations_a_line_is_logged_once_in_so_many_seconds(tmp_path, caplog):
    now, plan = [0.0], Plan(steps=9, every=9, log=1, batch=8, epoch=20)
    writer = MetricsWriter(tmp_path, 0, enabled=True)
    told = Progress(plan, 0, writer, Window(0), print, clock=lambda: now[0])
    with caplog.at_level(logging.INFO, "genjax.train.progress"):
        for step, seconds in enumerate((progress.LOG_SECONDS, 1, progress.LOG_SECONDS, 0), 1):
            told.resume()
            told.enqueue(step, 1, {"p/loss": np.ones(1)})
            now[0] += seconds  # the next call reads this one
    writer.close()
    lines = [record.getMessage().split("  ")[0] for record in caplog.records]
    assert lines == ["step 2 of 9"]  # not at the very second, nor so soon again


class Bar(tqdm_notebook):
    """A notebook's bar without a notebook."""

    made = ()

    def __init__(self, *_, disable, **__):
        Bar.made = (*Bar.made, self)
        self.requested, self.disable, self.steps, self.text = disable, bool(disable), 0, ""

    def update(self, n):
        self.steps += n

    def set_postfix_str(self, text):
        self.text = text

    def clear(self):
        self.cleared = self.steps

    def close(self):
        pass


def test_a_notebook_shows_its_progress_bar(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "tqdm", Bar)
    Run(tmp_path, steps=3, every=3).go()
    (bar,) = Bar.made
    assert bar.requested is False
    assert bar.steps == 3
    assert bar.text.startswith("p/loss ")
    assert bar.cleared == 3  # before the evaluation prints its line


def test_scan_steps_is_the_largest_divisor_of_the_evaluation_interval():
    assert largest_scan_steps(47, 50) == 47
    assert largest_scan_steps(100, 50) == 50
    assert largest_scan_steps(94, 50) == 47
    assert largest_scan_steps(97, 50) == 1
    for every in range(1, 60):
        for most in range(1, every + 2):
            divisors = [n for n in range(1, most + 1) if every % n == 0]
            assert largest_scan_steps(every, most) == divisors[-1]


@pytest.mark.parametrize(
    ("steps", "every", "scan_steps", "first"),
    [
        (300, 94, 1, 30),
        (300, 94, 2, 30),
        (300, 100, 20, 20),
        (300, 94, 47, 47),  # no call ends earlier
        (300, 47, 47, None),  # nor before the first evaluation
        (20, 100, 4, 4),
        (20, 100, 20, None),
        (300, 30, 1, None),
        (9, 9, 1, None),
        (10, 10, 1, 1),
        (301, 30, 1, None),
        (3000, 30, 1, None),
    ],
)
def test_the_first_images_come_within_a_tenth_of_the_run(steps, every, scan_steps, first):
    assert first_images(steps, every, scan_steps) == first


def test_the_bar_leaves_room_for_itself_in_80_columns():
    losses = {"critic/loss": 1.23456, "generator/loss": 0.69314}
    assert progress._short_losses(losses) == "critic 1.23 generator 0.693"
    assert progress._short_losses({"vae/loss": 245.678, "vae/kl": 1.0}) == "vae/loss 245.7"
    shown = {"n_fmt": "4500", "total_fmt": "10000", "remaining": "01:26"}
    postfix = f", {progress._short_losses(losses)} 48,123 images/s"
    assert len(progress.BAR.format(**shown, bar="", postfix=postfix)) <= 80 - 10


def test_a_stop_says_that_the_same_command_goes_on():
    assert (
        str(Stopped(signal.SIGINT, 4)) == "SIGINT, step 4 is saved: the same command resumes there"
    )
