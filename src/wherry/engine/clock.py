"""Times as Docker writes them: RFC 3339, UTC, nanoseconds with trailing zeros cut (Go's RFC3339Nano)."""

from __future__ import annotations

import re
import time
from calendar import timegm

ZERO_TIME = "0001-01-01T00:00:00Z"
_PATTERN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z\Z")


def now() -> str:
    """The present time."""
    return format_time(time.time_ns())


def format_time(time_ns: int) -> str:
    """Nanoseconds since 1970 as text."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{nanoseconds:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def parse_time(text: str) -> int:
    """The reverse of `format_time`; 0 for Go's zero time and anything else."""
    match = _PATTERN.match(text)
    if match is None or text == ZERO_TIME:
        return 0
    seconds = timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
