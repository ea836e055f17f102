"""A long wait is named on the terminal, a short one is not, and nothing runs on."""

import io
import re
import sys
import threading
from contextlib import suppress

import pytest

from genjax.train import waiting


class Terminal(io.StringIO):
    def isatty(self):
        return True


def announced(monkeypatch, terminal, waits, *, logged=True):
    """Announces a wait that ends at the last of so many looks, after the seconds asked for."""
    monkeypatch.setattr(sys, "stderr", terminal)
    asked = []

    def wait(seconds):
        asked.append(seconds)
        return len(asked) >= waits

    waiting._announce("compiling the train steps", logged, wait)
    return asked


def test_a_short_wait_is_not_named(monkeypatch, caplog):
    terminal = Terminal()
    with caplog.at_level("INFO", "genjax"):
        assert announced(monkeypatch, terminal, 1) == [waiting.DELAY]
    assert (terminal.getvalue(), caplog.messages) == ("", [])


def test_a_terminal_shows_the_time_each_second_and_nothing_is_left_of_it(monkeypatch, caplog):
    terminal = Terminal()
    with caplog.at_level("INFO", "genjax"):
        assert announced(monkeypatch, terminal, 4) == [waiting.DELAY, 1.0, 1.0, 1.0]
    shown = [part.strip() for part in terminal.getvalue().split("\r")]
    assert len([part for part in shown if part]) >= 3
    assert all(re.fullmatch(r"(compiling the train steps… \d\d:\d\d)?", part) for part in shown)
    assert shown[-1] == ""
    assert caplog.messages == []


@pytest.mark.parametrize("logged", [True, False])
def test_without_a_terminal_one_line_is_logged_where_that_is_asked_for(monkeypatch, caplog, logged):
    other = io.StringIO()
    with caplog.at_level("INFO", "genjax"):
        announced(monkeypatch, other, 9, logged=logged)
    assert caplog.messages == ["compiling the train steps…"] * logged
    assert other.getvalue() == ""


def test_a_wait_is_logged_unless_asked_otherwise_and_the_process_need_not_wait(monkeypatch):
    given = []

    class Thread(threading.Thread):
        def __init__(self, **options):
            given.append((options["args"][:2], options["daemon"]))
            super().__init__(**options)

    monkeypatch.setattr(waiting.threading, "Thread", Thread)
    with waiting.announced("compiling"), waiting.announced("saving", logged=False):
        pass
    assert given == [(("compiling", True), True), (("saving", False), True)]


def test_no_thread_is_left_even_by_an_error():
    before = threading.active_count()
    with suppress(LookupError), waiting.announced("compiling"):
        assert threading.active_count() == before + 1
        raise LookupError
    assert threading.active_count() == before
