"""Signals by name and number."""

import os
import signal
import threading

import pytest

from wherry.engine.containers.signals import (
    InvalidSignal,
    has_plans,
    is_supported,
    parse_signal,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("RTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMAX-2", 62),
        ("99", 99),
        ("-1", -1),
        ("POLL", 29),
    ],
)
def test_forms(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["0", "FOO", "", "RTMIN+99"])
def test_refusals(text: str) -> None:
    with pytest.raises(InvalidSignal, match="invalid signal: "):
        parse_signal(text)


def test_numbers_that_do_not_exist() -> None:
    assert is_supported(15)
    assert not is_supported(99)


def test_what_a_process_does_with_a_signal() -> None:
    number = signal.SIGUSR2
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert not has_plans(os.getpid(), number)
        signal.signal(number, signal.SIG_IGN)
        assert has_plans(os.getpid(), number)
        signal.signal(number, lambda *_: None)
        assert has_plans(os.getpid(), number)
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        assert has_plans(threading.get_native_id(), number)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        signal.signal(number, before)
    assert has_plans(0, number)
