"""Tables of many short words, written as text."""

from __future__ import annotations


def words(*lines: str) -> tuple[str, ...]:
    """The words of all lines, in order."""
    return tuple(word for line in lines for word in line.split())
