"""Durations in words."""

from __future__ import annotations

import pytest

from wherry.lib.durations import human_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (300, "5 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (3 * 86400, "3 days"),
        (14 * 86400, "2 weeks"),
        (15 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
        (3 * 365 * 86400, "3 years"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words
