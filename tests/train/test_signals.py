"""Each signal is noticed by itself; what the loop does about them is in test_loop."""

import signal
import socket

import pytest

from genjax.train import signals


def test_signals_that_come_at_once_are_noticed_one_by_one():
    receiver, sender = socket.socketpair()
    seen = []

    def notice(signum):
        seen.append(signum)
        if len(seen) == 2:
            raise OSError("the terminal is gone")

    sent = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)
    sender.send(bytes([*sent, 0, signal.SIGINT]))
    signals._watch(receiver, {signal.SIGTERM, signal.SIGINT}, notice)
    assert seen == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
    sender.close()
    receiver.close()


def test_a_flood_of_signals_prints_nothing_and_the_earlier_wakeup_is_back(monkeypatch):
    given = []

    def set_wakeup_fd(number, *, warn_on_full_buffer):
        given.append((number, warn_on_full_buffer))
        return -7

    monkeypatch.setattr(signal, "set_wakeup_fd", set_wakeup_fd)
    handlers = [signal.getsignal(each) for each in signals.STOPPING]
    with pytest.raises(KeyError), signals.handled(lambda *_: None, lambda _: None):
        raise KeyError
    assert [warns for _, warns in given] == [False, False]
    assert given[0][0] > 0
    assert given[1][0] == -7
    assert [signal.getsignal(each) for each in signals.STOPPING] == handlers
