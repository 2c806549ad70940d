"""Filters of list and prune requests: a name with its accepted values, as Docker's `filters=` carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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


_BOOLEANS = {"1": True, "true": True, "True": True, "0": False, "false": False, "False": False}
