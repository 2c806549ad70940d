"""Filters of records by field, as containerd has them: name=value, name~=pattern, name!=value, or a name alone.

A field that is absent matches nothing; a boolean is an empty text, or absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.lib.booleans import BOOLEANS
from wherry.lib.pattern import Pattern

Fields = Mapping[str, str | None]


def split_operator(name: str) -> tuple[str, str]:
    """`name`, `name~` or `name!` as the field's name and the operator."""
    return (name[:-1], name[-1]) if name.endswith(("~", "!")) else (name, "")


class FieldFilter:
    """One filter of a request."""

    def __init__(self, name: str, values: Sequence[str]) -> None:
        """Raises PatternError."""
        self._name, operator = split_operator(name)
        self._values = values
        self._is_other = operator == "!"
        self._patterns = [Pattern(value) for value in values] if operator == "~" else None

    def fits(self, fields: Fields) -> bool:
        """Whether the field has one of the values, or is there when none is given. Raises PatternError."""
        found = fields.get(self._name)
        if found is None:
            return any(BOOLEANS.get(value) is False for value in self._values)
        if not self._values:
            return True
        if self._patterns is not None:
            return any(pattern.is_found_in(found) for pattern in self._patterns)
        if self._is_other:
            return found not in self._values
        return any(
            value == found or (found == "" and BOOLEANS.get(value, False)) for value in self._values
        )
