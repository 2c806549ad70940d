"""Query parameters that are more than text: filters, timestamps, sizes of terminals, platforms."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from wherry.api.message import InvalidNumber, Query, parse_go_int
from wherry.engine.filters import Filters
from wherry.lib.jsonvalue import JsonError, JsonValue
from wherry.model.errors import InvalidArgument
from wherry.model.image import Platform
from wherry.model.oci_image import parse_platform_object
from wherry.model.platforms import normalize_platform, parse_platform


def parse_filters(query: Query) -> Filters:
    """`filters=` in both of its forms: `{"name": ["value"]}` and the older `{"name": {"value": true}}`."""
    text = query.get("filters")
    if not text:
        return {}
    try:
        document: JsonValue = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidArgument("invalid filter") from exc
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise InvalidArgument("invalid filter")
    return {name: _parse_values(values) for name, values in document.items()}


def _parse_values(values: JsonValue) -> list[str]:
    if isinstance(values, Mapping) and all(isinstance(flag, bool) for flag in values.values()):
        return list(values)
    if isinstance(values, list):
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) == len(values):
            return texts
    raise InvalidArgument("invalid filter")


def parse_timestamp_ns(text: str) -> int:
    """`seconds[.fraction]` → nanoseconds; "" and "0" are 0. Raises InvalidNumber."""
    if text in {"", "0"}:
        return 0
    whole, dot, fraction = text.partition(".")
    nanoseconds = parse_go_int(whole, "ParseInt") * 1_000_000_000
    if dot:
        nanoseconds += parse_go_int((fraction + "0" * 9)[:9], "ParseInt")
    return nanoseconds


def parse_terminal_size(query: Query) -> tuple[int, int]:
    """`h` and `w` → rows, columns."""
    return _parse_extent(query.get("h"), "height"), _parse_extent(query.get("w"), "width")


def _parse_extent(text: str, name: str) -> int:
    try:
        value = parse_go_int(text)
    except InvalidNumber as exc:
        raise InvalidArgument(f'invalid resize {name} "{text}": invalid syntax') from exc
    if not 0 <= value <= 0xFFFFFFFF:
        raise InvalidArgument(f'invalid resize {name} "{text}": value out of range')
    return value


def parse_platform_parameter(query: Query) -> Platform | None:
    """`platform=linux/arm64`, or an OCI platform as JSON (newer endpoints); None when it is not given."""
    text = query.get("platform")
    return _decode_platform(text) if text else None


def parse_platform_list(query: Query) -> tuple[Platform, ...]:
    """`platforms=`, any number of them."""
    return tuple(_decode_platform(text) for text in query.get_all("platforms"))


def _decode_platform(text: str) -> Platform:
    if not text.startswith("{"):
        return parse_platform(text)
    try:
        document: JsonValue = msgspec.json.decode(text)
        if not isinstance(document, Mapping):
            raise JsonError("expected an object")
        platform = parse_platform_object(document)
    except (msgspec.DecodeError, JsonError, RecursionError) as exc:
        raise InvalidArgument(f"failed to parse platform: {exc}") from exc
    if not platform.os or not platform.architecture:
        raise InvalidArgument("both OS and Architecture must be provided")
    return normalize_platform(platform)
