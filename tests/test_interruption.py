"""A request to stop waits until the work at hand is whole."""

import os
import signal
import threading

import pytest

from wmcomponents._interruption import Interrupted, postponed, raising


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_until_it_is_asked_for(signum, code):
    before = signal.getsignal(signum)
    work = []
    with pytest.raises(Interrupted) as stopped, postponed() as request:
        for step in range(5):
            if step == 2:
                send(signum)
            work.append(step)
            if request and step == 3:
                request.check()
    assert work == [0, 1, 2, 3] and stopped.value.exit_code == code
    assert signal.getsignal(signum) == before


def test_a_signal_that_nobody_asked_for_is_not_lost():
    work = []
    with pytest.raises(Interrupted), postponed():
        send(signal.SIGINT)
        work.append("whole")
    assert work == ["whole"]


def test_a_second_signal_stops_at_once():
    work = []
    with pytest.raises(Interrupted), postponed():
        send(signal.SIGINT)
        work.append("first")
        send(signal.SIGTERM)
        work.append("never")
    assert work == ["first"]


def test_an_error_of_the_work_itself_comes_first():
    with pytest.raises(ValueError, match="broken"), postponed():
        send(signal.SIGINT)
        raise ValueError("broken")


def test_what_asks_to_stop_raises_so_that_what_is_open_is_closed():
    closed = []
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), raising():
        try:
            send(signal.SIGTERM)
        finally:
            closed.append(True)
    assert closed


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with postponed() as request:
            send(signal.SIGHUP)
        assert not request and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_works_on_without_signals():
    seen = []

    def work():
        with postponed() as request:
            seen.append(bool(request))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
