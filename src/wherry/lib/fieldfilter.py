"""Filters of records by field, as containerd has them: name=value, name~=pattern, name!=value, or a name alone.

A field that is absent matches nothing; a boolean is an empty text, or absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wherry.lib.booleans import BOOLEANS

Fields = Mapping[str, str | None]


def split_operator(name: str) -> tuple[str, str]:
    """`name`, `name~` or `name!` as the field's name and the operator."""
    return (name[:-1], name[-1]) if name.endswith(("~", "!")) else (name, "")


def matches(fields: Fields, name: str, values: Sequence[str]) -> bool:
    """Whether the field has one of the values, or is there when none is given. Raises re.error."""
    name, operator = split_operator(name)
    found = fields.get(name)
    if found is None:
        return any(BOOLEANS.get(value) is False for value in values)
    if not values:
        return True
    if operator == "~":
        return any(re.search(value, found) for value in values)
    if operator == "!":
        return found not in values
    return any(value == found or (found == "" and BOOLEANS.get(value, False)) for value in values)
