"""Filters of list and prune requests: a name with its accepted values, as Docker's `filters=` carries them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from wherry.model.errors import InvalidArgument

Filters = Mapping[str, Sequence[str]]
"""`{"label": ["a=b"], "status": ["exited"]}`; values of one name are alternatives, names add up."""


class InvalidFilter(InvalidArgument):
    """A filter's name or value is not known."""

    def __init__(self, name: str, values: Sequence[str] = ()) -> None:
        super().__init__(
            f"invalid filter '{name}=[{' '.join(values)}]'"
            if values
            else f"invalid filter '{name}'"
        )


def check_filters(filters: Filters, accepted: Iterable[str]) -> None:
    """Raises InvalidFilter for a name that the request does not know."""
    known = frozenset(accepted)
    for name in filters:
        if name not in known:
            raise InvalidFilter(name)


def match_labels(wanted: Sequence[str], labels: Mapping[str, str]) -> bool:
    """All of the wanted labels are there: `key` alone, or `key=value`."""
    for item in wanted:
        key, separator, value = item.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


def flag_filter(filters: Filters, name: str, *, default: bool) -> bool:
    """A filter that is true or false. Raises InvalidFilter for anything else."""
    values = filters.get(name)
    if not values:
        return default
    found = {_BOOLEANS.get(value) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidFilter(name, values)
    return found == {True}


def parse_until(filters: Filters) -> int:
    """The filter `until` in nanoseconds since 1970; 0 when it is absent. Raises InvalidArgument."""
    values = filters.get("until", ())
    if len(values) > 1:
        raise InvalidArgument("more than one until filter specified")
    return parse_moment(values[0]) if values else 0


def parse_moment(text: str) -> int:
    """A duration back from now, a Unix time, a time or a date, as nanoseconds. Raises InvalidArgument."""
    if text.replace(".", "", 1).isdecimal():
        return int(float(text) * 1e9)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time_ns() - int(sum(float(number) * _UNITS[unit] for number, unit in parts))
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError as exc:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1e9)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_BOOLEANS = {"1": True, "true": True, "True": True, "0": False, "false": False, "False": False}
