"""The help texts of --format, and what list verbs share: filters, short ids, dates, ellipses."""

from __future__ import annotations

import time

from wherry.lib.durations import human_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments

FORMAT_HELP = """Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"""

INSPECT_FORMAT_HELP = """Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"""

SHORT_ID = 12


def read_filters(arguments: Arguments, option: str = "filter") -> dict[str, list[str]]:
    """The filters by name."""
    filters: dict[str, list[str]] = {}
    for text in arguments.many(option):
        name, separator, value = text.partition("=")
        if separator:
            filters.setdefault(name.strip().lower(), []).append(value.strip())
    return filters


def short_id(identity: str, *, truncate: bool = True) -> str:
    """The first twelve digits of an id."""
    if not truncate:
        return identity
    return identity.removeprefix("sha256:")[:SHORT_ID]


def ellipsis(text: str, width: int) -> str:
    """At most `width` columns, the last one an ellipsis if something was cut."""
    if text.isascii():
        if len(text) <= width:
            return text
        return text[: width - 1] + "…" if width > 1 else text[:width]
    from unicodedata import combining, east_asian_width

    widths = [0 if combining(c) else 2 if east_asian_width(c) in {"W", "F"} else 1 for c in text]
    if sum(widths) <= width:
        return text
    used = 0
    for at, columns in enumerate(widths):
        used += columns
        if used > width - 1:
            return text[:at] + "…"
    return text


def since(seconds: float) -> str:
    """`3 hours ago`."""
    return f"{human_duration(time.time() - seconds)} ago"


def go_time(seconds: int) -> str:
    """A time as Go's String shows it: `2026-11-24 04:19:06 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def rfc3339(seconds: int) -> str:
    """A time as `2026-01-01T00:00:00Z`."""
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + zone


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """A sort key that takes numbers by value: a2 before a10."""
    key: list[tuple[int, int, str]] = []
    at = 0
    while at < len(text):
        start = at
        digits = text[at].isdigit()
        while at < len(text) and text[at].isdigit() == digits:
            at += 1
        part = text[start:at]
        key.append((0, int(part), part) if digits and part.isascii() else (1, 0, part))
    return key


def join_labels(labels: object) -> str:
    """`a=b,c=d`, sorted."""
    if not isinstance(labels, dict):
        return ""
    return ",".join(sorted(f"{name}={value}" for name, value in labels.items()))


def label_of(document: object, name: str) -> str:
    """The value of a label of a document with Labels."""
    labels = document.get("Labels") if isinstance(document, dict) else None
    value = labels.get(name) if isinstance(labels, dict) else None
    return value if isinstance(value, str) else ""
