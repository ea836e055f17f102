"""The faults that `tools.inject_faults` injects into runs, each with a row of what survived."""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from tools.harmed_runs import (
    BEGUN,
    END,
    EVERY,
    Row,
    Runs,
    Trial,
    complete,
    contents,
    harm,
    logged,
    reach,
    refused,
    summed,
)

# Fails to open the files of a folder, as a network disk does that is gone for a moment.
READ_ERROR = """
import errno, os, sys
def hook(event, values, open_=frozenset(["open"])):
    if event in open_ and isinstance(values[0], (str, os.PathLike)) and {part!r} in str(values[0]):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(values[0]))
sys.addaudithook(hook)
"""

# Its own terminal, whose end is noticed although the harness was started with nohup.
TERMINAL = """\
import fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)"""


def kills(runs: Runs, count: int, rng: random.Random) -> Row:
    """kill -9 at a random step, of runs from the start and of resumed ones."""
    trials = []
    for number in range(count):
        directory = runs.copy("killed")
        if number % 2:
            shutil.rmtree(directory)
        step = rng.randrange(logged(directory) + 1, END)
        process, _ = runs.start(directory)
        reach(directory, step, process)
        process.kill()
        if process.wait() == -signal.SIGKILL:  # else it had ended before
            trials.append(runs.resumed(directory, complete(directory), f"killed at {step}"))
        runs.tick()
    return summed("kill -9", runs.name, trials)


def early_kills(runs: Runs, count: int, rng: random.Random) -> Row:
    """kill -9 before the first step of a run or of its resumption."""
    trials = []
    seconds = 10.0  # until the first step, as measured from the last run that was too quick
    while len(trials) < count:
        directory = runs.copy("killed")
        if len(trials) % 2:
            shutil.rmtree(directory)
        before, began = logged(directory), time.monotonic()
        process, _ = runs.start(directory)
        reach(directory, before + 1, process, rng.uniform(0, seconds))
        process.kill()
        process.wait()
        if logged(directory) > before:
            seconds = time.monotonic() - began
            continue
        available = complete(directory)
        trials.append(runs.resumed(directory, available, "killed before the first step"))
        runs.tick()
    return summed("kill -9 at the start", runs.name, trials)


def terminations(runs: Runs, count: int, rng: random.Random) -> Row:
    """SIGTERM at a random step: that step is saved, the exit code 143."""
    trials, slowest = [], 0.0
    for _ in range(count):
        directory = runs.copy("terminated")
        step = rng.randrange(BEGUN + 1, END - EVERY)
        process, output = runs.start(directory)
        reach(directory, step, process)
        process.send_signal(signal.SIGTERM)
        began, reached = time.monotonic(), logged(directory)
        code = process.wait()
        slowest = max(slowest, time.monotonic() - began)
        said = re.search(r"SIGTERM, step ([\d,]+) is saved", output.read_text())
        claimed = int(said.group(1).replace(",", "")) if said else reached
        if code != 0:  # else it had ended before
            trial = runs.resumed(directory, max(claimed, reached), f"stopped at {step}")
            survived = trial.survived and code == 143 and said is not None
            trials.append(trial._replace(survived=survived))
        runs.tick()
    return summed("SIGTERM", runs.name, trials, f"at most {slowest:.1f} s to exit")


def closed_terminals(runs: Runs, count: int, rng: random.Random) -> Row:
    """A terminal that closes, with SIGHUP and errors at each write: the step is saved."""
    trials = []
    for _ in range(count):
        directory = runs.copy("closed")
        step = rng.randrange(BEGUN + 1, END - EVERY)
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            runs.command(directory, END, plant=TERMINAL),
            cwd=runs.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        closing = threading.Event()
        reader = threading.Thread(target=_drain, args=(ours, closing))
        reader.start()
        reach(directory, step, process)
        closing.set()
        reader.join()
        reached = logged(directory)
        os.close(ours)
        code = process.wait()
        if code != 0:
            trial = runs.resumed(directory, reached, f"closed at {step}, exit {code}")
            trials.append(trial._replace(survived=trial.survived and code == 129))
        runs.tick()
    return summed("closed terminal", runs.name, trials)


def _drain(terminal: int, closing: threading.Event) -> None:
    os.set_blocking(terminal, False)
    while not closing.wait(0.01):
        try:
            os.read(terminal, 1 << 16)
        except OSError:  # nothing there
            continue


def damages(runs: Runs, count: int, rng: random.Random, where: str = "**/*") -> Row:
    """A flipped bit in, or a part or all of any file of the run: noticed, and nothing deleted."""
    trials = []
    kinds = {"flipped": 0, "cut": 0, "emptied": 0, "missing": 0}
    for _ in range(count):
        directory = runs.copy("harmed")
        victim = rng.choice(sorted(path for path in directory.glob(where) if path.is_file()))
        kind = rng.choice(["flipped"] * 7 + ["cut"] * 3 + ["emptied", "missing"])
        kinds[kind] += 1
        harm(victim, kind, rng)
        trials.append(_after_damage(runs, directory, victim, f"{kind} {victim.name}"))
        runs.tick()
    note = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return summed("damaged file", runs.name, trials, note)


def _after_damage(runs: Runs, directory: Path, victim: Path, note: str) -> Trial:
    parts = victim.relative_to(directory).parts
    in_checkpoint = "checkpoints" in parts
    main = parts[0] == "checkpoints"
    available = BEGUN - EVERY if main and parts[1] == str(BEGUN) else BEGUN
    folder = victim
    while in_checkpoint and folder.parent.name != "checkpoints":
        folder = folder.parent
    before = {k: v for k, v in contents(directory).items() if k != "config.json"}
    code, output = runs.ended(directory)
    if refused(code, output):  # right without settings, or without another checkpoint
        only = in_checkpoint and len(list(folder.parent.iterdir())) == 1
        right = victim.name == "config.json" or (only and "--run.fresh" in output)
        kept = {k: v for k, v in contents(directory).items() if k in before} == before
        return Trial(right, 0 if kept else BEGUN, note="" if right and kept else f"{note} {output}")
    trial = runs.judged(directory, available, code, output, note)
    prefix = str(folder.relative_to(directory))
    harmed = {digest for name, digest in before.items() if name.startswith(f"{prefix}/")}
    newest = in_checkpoint and folder.name == str(BEGUN)
    if newest and not harmed <= set(contents(directory).values()):
        trial = trial._replace(lost=trial.lost + EVERY, note=f"{note}: deleted")
    return trial


def all_damaged(runs: Runs, count: int, rng: random.Random) -> Row:
    """A bit flipped in each checkpoint: refused, unchanged, and begun again only when asked to."""
    trials = []
    for _ in range(count):
        directory = runs.copy("harmed")
        for folder in (directory / "checkpoints").iterdir():
            files = sorted(path for path in folder.rglob("*") if path.stat().st_size)
            harm(rng.choice([path for path in files if path.is_file()]), "flipped", rng)
        before = contents(directory)
        before.pop("config.json")  # says where it is
        code, output = runs.ended(directory)
        found = contents(directory)
        unchanged = all(found.get(name) == digest for name, digest in before.items())
        trial = Trial(refused(code, output), 0 if unchanged else BEGUN, code == 0, output[-300:])
        if trial.survived:
            again = _afresh(runs, directory)
            kept = set(before.values()) <= set(contents(directory).values())
            trial = again._replace(lost=trial.lost + (0 if kept else BEGUN))
        trials.append(trial)
        runs.tick()
    return summed("all damaged", runs.name, trials)


def _afresh(runs: Runs, directory: Path) -> Trial:
    code, output = runs.ended(directory, "--run.fresh")
    return runs.judged(directory, 0, code, output, "afresh")


def read_errors(runs: Runs, count: int, rng: random.Random) -> Row:
    """EIO at a checkpoint: one line, nothing changed; the disk back, the run goes on from there."""
    trials = []
    for number in range(count):
        directory = runs.copy("unread")
        step = BEGUN if number % 2 == 0 else None
        part = f"{directory}/checkpoints/" + (f"{step}/" if step else "")
        before = contents(directory)
        before.pop("config.json")
        code, output = runs.ended(directory, plant=READ_ERROR.format(part=part))
        found = contents(directory)
        changed = [name for name in before if found.get(name) != before[name]]
        trial = runs.resumed(directory, BEGUN, f"after EIO, exit {code}")
        survived = trial.survived and refused(code, output) and not changed
        note = trial.note or ("" if survived else f"exit {code}: {output[-300:]} {changed[:2]}")
        trials.append(trial._replace(survived=survived, silent=trial.silent or not code, note=note))
        runs.tick()
    return summed("read error", runs.name, trials)
