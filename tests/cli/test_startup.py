"""The process is set up before jax starts; an exception in a thread is logged in one line, once."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from platform import libc_ver

import pytest

from genjax.cli import startup


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "in the background: ValueError: one"),
        (ValueError(), "in the background: ValueError"),
        (ValueError("\n"), "in the background: ValueError"),
    ],
)
def test_an_error_in_a_thread_is_logged_in_one_line(error, line, capsys):
    def raises():
        raise error

    with startup.quiet_threads():
        for _ in range(2):
            thread = threading.Thread(target=raises)
            thread.start()
            thread.join()
    assert capsys.readouterr().err.splitlines() == [line]


PROBE = """
import os, sys
from genjax.cli import restart
restart.keep_freed_memory()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.stdin.read(), os.getpid())
"""
KEEPING = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
    ":glibc.malloc.trim_threshold=1073741824"
)


@pytest.mark.skipif(libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (None, KEEPING),
        ("glibc.malloc.check=0", f"glibc.malloc.check=0:{KEEPING}"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("glibc.malloc.trim_threshold=0", "glibc.malloc.trim_threshold=0"),
    ],
)
def test_the_command_re_executes_itself_once_with_its_arguments_and_input(given, seen, tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment |= {"PYTHONPATH": path} | ({"GLIBC_TUNABLES": given} if given else {})
    with subprocess.Popen(
        [sys.executable, "-m", "probe", "a", "b c"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate("input")
    assert out == f"{seen} ['a', 'b c'] input {process.pid}\n"


def test_a_program_read_from_a_pipe_is_not_re_executed():
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable], input=PROBE, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("None [] ")


# A test run in a shell's background ignores Ctrl-C, and so would its children.
HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


# After the line about parameters it compiles.
@pytest.mark.parametrize(
    ("number", "after"),
    [
        pytest.param(signal.SIGINT, "parameters of unet", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "parameters of unet", marks=pytest.mark.slow),
        (signal.SIGHUP, "device(s)"),
    ],
)
def test_a_signal_before_the_first_step_ends_in_one_line(tmp_path, own_sets, number, after):
    flags = ["--run.dir", tmp_path / "run", "--data.dir", own_sets, "--run.devices", 1]
    with subprocess.Popen(
        [sys.executable, "-c", HEEDING, "-u", "-m", "experiments.ddpm_fashion", *map(str, flags)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert any(after in line for line in process.stdout)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == f"stopped: {number.name}"
    assert "Traceback" not in err


def test_a_long_line_is_wrapped_between_its_fields_on_a_terminal(monkeypatch):
    line = (
        "step      5 of 10  epoch 1.0  critic/loss 1.2345  generator/loss 0.6931  48,000 images/s"
    )
    assert startup._wrapped(line) == line
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    lines = startup._wrapped(line).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 60
    assert "  ".join(part.strip() for part in lines) == line
    assert startup._wrapped("short  line") == "short  line"


class Terminal:
    def isatty(self):
        return True


EARLY = """
import os, signal, sys, time
sys.orig_argv, sys.argv = ["python", "-m", "x"], ["-m"]
os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"  # or else it re-executes itself
import experiments
os.kill(os.getpid(), int(sys.stdin.read()))
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_imports_ends_in_one_line(number):
    done = subprocess.run(
        [sys.executable, "-c", HEEDING, "-c", EARLY],
        cwd=Path(__file__).parents[2],
        input=str(int(number)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (128 + number, f"stopped: {number.name}\n")


def test_a_closed_terminal_ends_no_run(monkeypatch):
    class Closed:
        def write(self, text):
            raise OSError(5, "Input/output error")

        flush = write

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Closed())
    with startup.printed_log():
        logging.getLogger("genjax.any").warning("a line")
    startup.report("another")
