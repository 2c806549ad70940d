"""Times in Go's form."""

import pytest

from wherry.engine.clock import ZERO_TIME, format_time, parse_time


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_795_494_285_375_546_956, "2026-11-24T04:24:45.375546956Z"),
        (1_795_494_285_370_000_000, "2026-11-24T04:24:45.37Z"),
    ],
)
def test_round_trip(nanoseconds: int, text: str) -> None:
    assert format_time(nanoseconds) == text
    assert parse_time(text) == nanoseconds


def test_zero_time_is_zero() -> None:
    assert parse_time(ZERO_TIME) == 0
    assert parse_time("yesterday") == 0
