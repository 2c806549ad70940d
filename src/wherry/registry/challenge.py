"""`WWW-Authenticate` parsing and token scopes: pure text, no network.

RFC 9110 section 11.6.1: a field holds several challenges; each is a scheme followed by either parameters
(`name=token` or `name="quoted"`) or one token68. Several fields may be given. A comma separates parameters and
challenges alike, so a word followed by `=` continues a challenge and a word followed by a space opens one.
Scopes are the distribution project's (`repository:library/node:pull,push`, docs/spec/auth/scope).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=\s*(?:,|\Z))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPACE = re.compile(r"[ \t]*")
_SEPARATORS = re.compile(r"[ \t,]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge; scheme and parameter names are lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of all fields, in order. What cannot be parsed ends its field; nothing is raised."""
    return tuple(challenge for text in fields for challenge in _parse_field(text))


def _parse_field(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while True:
        position = _end(_SEPARATORS, text, position)
        word = _TOKEN.match(text, position)
        if word is None:
            return found
        scheme, position = word.group().lower(), _end(_SPACE, text, word.end())
        parameters: dict[str, str] = {}
        blob = _TOKEN68.match(text, position)
        if blob is not None and blob.group().endswith("="):
            position = blob.end()
        else:
            position = _parse_parameters(text, position, parameters)
        found.append(Challenge(scheme=scheme, parameters=parameters))


def _parse_parameters(text: str, position: int, parameters: dict[str, str]) -> int:
    while True:
        start = _end(_SEPARATORS, text, position)
        name = _TOKEN.match(text, start)
        if name is None:
            return start
        after = _end(_SPACE, text, name.end())
        if text[after : after + 1] != "=":
            return start
        after = _end(_SPACE, text, after + 1)
        quoted = _QUOTED.match(text, after)
        plain = _TOKEN.match(text, after)
        if quoted is not None:
            value, position = _ESCAPE.sub(r"\1", quoted.group(1)), quoted.end()
        elif plain is not None:
            value, position = plain.group(), plain.end()
        else:
            return len(text)
        parameters.setdefault(name.group().lower(), value)


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return position if found is None else found.end()


def repository_scope(path: str, *actions: str) -> str:
    """`repository:<path>:pull,push`."""
    return f"repository:{path}:{','.join(actions)}"


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """One scope per resource with the union of its actions, sorted: a key for a token cache."""
    actions_of: dict[str, set[str]] = {}
    for text in scopes:
        for scope in text.split():
            resource, _, actions = scope.rpartition(":")
            actions_of.setdefault(resource, set()).update(
                action for action in actions.split(",") if action
            )
    return tuple(
        f"{resource}:{','.join(sorted(actions_of[resource]))}" for resource in sorted(actions_of)
    )
