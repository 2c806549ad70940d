"""Paths → handlers: route tables, API versions in paths, and the answers for what is not there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from wherry.api.message import Answer, Request, Response, json_response
from wherry.wire.system import ErrorResponse

API_VERSION = (1, 51)
MIN_API_VERSION = (1, 24)

Handler = Callable[[Request], Awaitable[Answer]]

_VERSIONED = re.compile(r"/v(\d{1,6})\.(\d{1,6})(?=/)")
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


def format_version(version: tuple[int, int]) -> str:
    """`1.51`."""
    return f"{version[0]}.{version[1]}"


@dataclass(frozen=True, slots=True)
class Route:
    """One row of a route table.

    `{name}` matches one segment of the path, `{name:path}` several (image names). With `cancel` the handler is
    cancelled when the client goes; everything else runs to its end, so that half-done work is never left by an
    impatient client.
    """

    method: str
    pattern: str
    handler: Handler
    cancel: bool = False
    since: tuple[int, int] = MIN_API_VERSION
    until: tuple[int, int] = API_VERSION


@dataclass(frozen=True, slots=True)
class Match:
    """A route that fits, and the parts of the path."""

    route: Route
    params: Mapping[str, str] = field(default_factory=dict)


class Router:
    """All routes. Static paths are found by a dictionary, the rest by first segment, then in order."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._static: dict[tuple[str, str], Match] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            if "{" not in route.pattern:
                self._static[route.method, route.pattern] = Match(route)
                continue
            key = (route.method, route.pattern.split("/")[1])
            self._patterns.setdefault(key, []).append((_compile(route.pattern), route))

    def find(self, method: str, path: str, version: tuple[int, int]) -> Match | None:
        """The route of an unversioned path, percent-encoded still."""
        match = self._static.get((method, path)) or self._find_pattern(method, path)
        if match is None or not match.route.since <= version <= match.route.until:
            return None
        return match

    def _find_pattern(self, method: str, path: str) -> Match | None:
        first = path[1:].partition("/")[0]
        for pattern, route in self._patterns.get((method, first), ()):
            found = pattern.fullmatch(path)
            if found is not None:
                return Match(
                    route,
                    {name: unquote(value) for name, value in found.groupdict().items()},
                )
        return None


def _compile(pattern: str) -> re.Pattern[str]:
    position = 0
    parts = []
    for parameter in _PARAMETER.finditer(pattern):
        parts.append(re.escape(pattern[position : parameter.start()]))
        parts.append(f"(?P<{parameter[1]}>{'.+' if parameter[2] else '[^/]+'})")
        position = parameter.end()
    parts.append(re.escape(pattern[position:]))
    return re.compile("".join(parts))


def split_version(path: str) -> tuple[tuple[int, int] | None, str]:
    """`/v1.44/info` → ((1, 44), `/info`); the version is None in a path without one."""
    found = _VERSIONED.match(path)
    if found is None:
        return None, path
    return (int(found[1]), int(found[2])), path[found.end() :]


def refuse_version(version: tuple[int, int]) -> Response | None:
    """The answer to a version that this engine does not speak, in dockerd's forms."""
    text = format_version(version)
    if version < MIN_API_VERSION:
        # dockerd answers old clients in plain text, which they can show (server/middleware/version.go).
        return Response(
            400,
            f"client version {text} is too old. Minimum supported API version is"
            f" {format_version(MIN_API_VERSION)}, please upgrade your client to a newer version\n".encode(),
            "text/plain; charset=utf-8",
            {"X-Content-Type-Options": "nosniff"},
        )
    if version > API_VERSION:
        return json_response(
            ErrorResponse(
                f"client version {text} is too new. Maximum supported API version is"
                f" {format_version(API_VERSION)}"
            ),
            400,
        )
    return None
