"""Signals by name and number."""

import pytest

from wherry.engine.containers.signals import InvalidSignal, is_supported, parse_signal


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
