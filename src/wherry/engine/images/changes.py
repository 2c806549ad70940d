"""What changed in a directory, as `docker diff` and `image tree` show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.lib.jsonvalue import JsonValue
from wherry.model.errors import Internal


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`kind` is C (changed), A (added) or D (deleted); `size_bytes` is 0 for what is no regular file."""

    kind: str
    path: str
    size_bytes: int = 0


def parse_changes(value: JsonValue) -> list[Change]:
    """The worker's list as records, in the order of paths."""
    changes = []
    for item in value if isinstance(value, Sequence) else ():
        match item:
            case [str(kind), str(path), int(size)]:
                changes.append(Change(kind=kind, path=path, size_bytes=size))
            case _:
                raise Internal("the worker's list of changes is malformed")
    return sorted(changes, key=lambda change: change.path)
