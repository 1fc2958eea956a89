"""Signals: the first is asked about, the second ends the process, a lost terminal changes nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from gradus.exits import Code
from gradus.train.interrupt import SAME_SIGNAL_SECONDS, Interrupted, catch_signals
from tests.faults.tiny_state import in_child


def raise_here(number: int) -> None:
    signal.raise_signal(number)


def later(number: int, seconds: float = 2 * SAME_SIGNAL_SECONDS) -> None:
    time.sleep(seconds)
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_question(number: int) -> None:
    with catch_signals() as stop:
        stop.poll()
        assert not stop.is_asked
        raise_here(number)
        assert stop.is_asked
        with pytest.raises(Interrupted) as interrupted:
            stop.poll()
    assert interrupted.value.code == Code.INTERRUPTED
    assert signal.Signals(number).name in interrupted.value.message


def test_a_save_is_not_interrupted(capfd: pytest.CaptureFixture[str]) -> None:
    with catch_signals() as stop:
        with stop.shielded():
            raise_here(signal.SIGTERM)
            stop.poll()
            with stop.shielded():
                stop.poll()
            stop.poll()
        with pytest.raises(Interrupted):
            stop.poll()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("shielded", [False, True])
def test_the_second_signal_ends_the_process_at_once(second: int, shielded: bool) -> None:
    def two() -> None:
        with catch_signals() as stop:
            raise_here(signal.SIGINT)
            if shielded:
                with stop.shielded():
                    later(second)
            later(second)

    begin = time.monotonic()
    assert in_child(two) == Code.FORCED
    assert time.monotonic() - begin < 2


def test_one_ctrl_c_that_arrives_twice_is_one() -> None:
    """The terminal signals the whole group, and a launcher passes its own on."""
    with catch_signals() as stop:
        raise_here(signal.SIGINT)
        raise_here(signal.SIGINT)
        with pytest.raises(Interrupted):
            stop.poll()


def test_while_loading_a_signal_acts_at_once() -> None:
    with catch_signals() as stop:
        with pytest.raises(Interrupted), stop.at_once():
            raise_here(signal.SIGTERM)
            pytest.fail("the signal was only noted")
        with pytest.raises(Interrupted), stop.at_once():  # asked before: not even begun
            pytest.fail("work was begun after a signal")


def test_after_loading_a_signal_is_only_noted() -> None:
    with catch_signals() as stop:
        with stop.at_once():
            pass
        raise_here(signal.SIGINT)
        assert stop.is_asked


def test_a_lost_terminal_is_ignored() -> None:
    with catch_signals() as stop:
        raise_here(signal.SIGHUP)
        stop.poll()


def test_handlers_are_given_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(RuntimeError), catch_signals():
        raise RuntimeError
    assert [signal.getsignal(number) for number in numbers] == before


def test_no_signal_falls_between_two_catchers() -> None:
    with catch_signals() as outer:
        with catch_signals() as inner:
            assert inner is outer
        raise_here(signal.SIGTERM)
        with catch_signals() as inner, pytest.raises(Interrupted):
            inner.poll()
    with catch_signals() as fresh:
        assert not fresh.is_asked


def test_an_interruption_nobody_catches_ends_with_its_code() -> None:
    def command() -> None:
        try:
            with catch_signals() as stop:
                raise_here(signal.SIGTERM)
                stop.poll()
        except Interrupted as interrupted:
            os._exit(interrupted.code)

    assert in_child(command) == 75


def test_outside_the_main_thread_nothing_is_caught() -> None:
    seen: list[Callable[[], None]] = []

    def work() -> None:
        with catch_signals() as stop:
            stop.poll()
            seen.append(stop.poll)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(seen) == 1
