"""What a library's threads raise in the background is told on a line each, once."""

import threading

import pytest

from genjax.cli import platform


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "in the background: ValueError: one"),
        (ValueError(), "in the background: ValueError"),
        (ValueError("\n"), "in the background: ValueError"),
    ],
)
def test_an_error_of_a_thread_is_one_line_however_long_or_empty_it_is(error, line, capsys):
    def raises():
        raise error

    with platform.background():
        for _ in range(2):
            thread = threading.Thread(target=raises)
            thread.start()
            thread.join()
    assert capsys.readouterr().err.splitlines() == [line]
