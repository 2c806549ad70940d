"""Points in time as people give them: `10m`, `2026-11-24T04:49:00Z`, seconds since 1970."""

from __future__ import annotations

import time

from wherry.cli.command import ValueRefused
from wherry.cli.errors import CommandFailed
from wherry.cli.flags import parse_duration_ns


def to_timestamp(text: str, what: str = "") -> str:
    """Seconds (and nanoseconds) since 1970 for the engine; raises CommandFailed."""
    if not text:
        return ""
    try:
        return str(int(time.time() - parse_duration_ns(text) / 1e9))
    except ValueRefused:
        pass
    seconds, _, fraction = text.partition(".")
    if seconds.isdigit() and (not fraction or fraction.isdigit()):
        return text
    moment = _parse_moment(text)
    if moment is None:
        raise CommandFailed(f'{what}failed to parse value as time or duration: "{text}"')
    return moment


def _parse_moment(text: str) -> str | None:
    from datetime import datetime

    day, separator, clock = text.partition("T")
    fraction = ""
    zone = ""
    if separator:
        for mark in "Z+-":
            head, found, tail = clock.partition(mark)
            if found:
                clock = head
                zone = "+00:00" if mark == "Z" else f"{mark}{tail}"
                break
        clock, _, fraction = clock.partition(".")
        clock += ":00" * (2 - clock.count(":"))
    if fraction and not fraction.isdigit():
        return None
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone}")
    except ValueError:
        return None
    seconds = int(moment.timestamp())
    return f"{seconds}.{fraction[:9].ljust(9, '0')}"
