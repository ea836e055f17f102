"""Faults of what a run shares: its directory, its disk and the work of its other processes."""

import random
import re
import signal
import socket
import subprocess
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
    reach,
    refused,
    summed,
)


def pairs(runs: Runs, count: int, rng: random.Random) -> Row:
    """A second process in the directory: refused, until the first ends or gets kill -9."""
    trials = []
    for number in range(count):
        directory = runs.copy("shared")
        first, _ = runs.start(directory)
        reach(directory, BEGUN + 1, first)
        first.send_signal(signal.SIGSTOP)  # so that it does not end before the second has come
        available = complete(directory)
        code, output = runs.ended(directory)
        first.send_signal(signal.SIGKILL if number % 2 else signal.SIGCONT)
        ended = first.wait()
        if available < END:  # else it had ended before
            named = f"process {first.pid} on {socket.gethostname()}"
            right = refused(code, output) and named in output
            note = f"second: exit {code}: {output[-200:]}; first: exit {ended}"
            trial = runs.resumed(directory, available if number % 2 else END, note)
            right = right and ended == (-signal.SIGKILL if number % 2 else 0)
            trials.append(trial._replace(survived=trial.survived and right))
        runs.tick()
    return summed("two at once", runs.name, trials)


def full_disks(runs: Runs, count: int, _: random.Random) -> Row:
    """A tmpfs that is full and then is not: one error, saves remain, and the run goes on."""
    trials, notes = [], []
    for kilobytes in _sizes(runs, count):
        disk, full, late = (
            runs.folder / f"{name}_{kilobytes}" for name in ("disk", "full", "late")
        )
        disk.mkdir()
        command = " ".join(f"'{word}'" for word in runs.command(disk / "run", END))
        # A mount in a mount namespace of its own needs no privileges and leaves nothing behind.
        script = (
            f"mount -t tmpfs -o size={kilobytes}k none {disk} || exit 99\n"
            f"{command} > {full}.output 2>&1; echo $? > {full}.code; cp -a {disk}/run {full}\n"
            f"mount -o remount,size=1g {disk} || exit 99\n"
            f"{command} > {late}.output 2>&1; echo $? > {late}.code; cp -a {disk}/run {late}\n"
        )
        done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=runs.folder)
        if done.returncode == 99:
            return Row("disk full", runs.name, 0, 0, 0, 0, "not tried: no mount here")
        codes = [int(Path(f"{p}.code").read_text()) for p in (full, late)]
        texts = [Path(f"{p}.output").read_text() for p in (full, late)]
        text = texts[1].replace(str(disk / "run"), str(late))
        trial = runs.judged(late, complete(full), codes[1], text, f"{kilobytes} KiB")
        right = refused(codes[0], texts[0])
        note = "" if right else f"{kilobytes} KiB: exit {codes[0]}: {texts[0][-300:]}"
        silent = trial.silent or codes[0] == 0
        note = trial.note or note
        trials.append(trial._replace(survived=trial.survived and right, silent=silent, note=note))
        notes.append(f"{kilobytes:,} KiB: exit {codes[0]}, step {complete(full)} on disk")
        runs.tick()
    return summed("disk full", runs.name, trials, "; ".join(notes))


def _sizes(runs: Runs, count: int) -> list[int]:
    """Disks of 0.5, 1.5, … checkpoints of a run, in KiB."""
    folder = runs.begun / "checkpoints" / str(BEGUN)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return [int((n + 0.5) * size / 1024) for n in range(count)]


def lost_peers(runs: Runs, count: int, rng: random.Random) -> Row:
    """kill -9 of one of two processes: the other ends, and both go on from the last save."""
    reference = runs.folder / "peers_uninterrupted"
    if [process.wait() for process in _both(runs, reference)] != [0, 0]:
        raise RuntimeError("two processes do not work here")
    trials, slowest = [], 0.0
    for number in range(count):
        directory = runs.folder / f"peers_{number}"
        step = rng.randrange(1, END - EVERY)
        both = _both(runs, directory)
        reach(directory, step, both[0])
        both[number % 2].kill()
        began = time.monotonic()
        code = both[1 - number % 2].wait()
        slowest = max(slowest, time.monotonic() - began)
        available = complete(directory)
        codes = [process.wait() for process in _both(runs, directory)]
        output = (runs.folder / f"output_{runs.number - 1}").read_text()
        at = re.findall(r"resumed at step ([\d,]+) of", output)
        lost = max(0, available - (int(at[-1]) if at else 0))
        different = runs.differences(directory, reference)
        survived = code not in (0, None) and codes == [0, 0] and not different
        note = f"killed at {step}: exits {code}, {codes}, other bits: {different}"
        trials.append(Trial(survived, lost, bool(different), "" if survived else note))
        runs.tick()
    return summed("dead peer", runs.name, trials, f"at most {slowest:.1f} s to notice")


def _both(runs: Runs, directory: Path) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    joined = f"--run.distributed --run.coordinator localhost:{port} --run.processes 2".split()
    return [runs.start(directory, *joined, "--run.process", str(i))[0] for i in range(2)]
