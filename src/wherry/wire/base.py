"""What the Engine API's JSON structs share: Go's names, Go's idea of null, Go's `omitempty`.

A field that Go leaves out when it is empty has the default UNSET; every other field is always written, in
the order of the class. Decoding ignores unknown keys and the case of known ones, and takes null for "not given", as
Go's decoder does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TypeVar, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, structs

from wherry.lib.gojson import syntax_error
from wherry.lib.jsonvalue import JsonValue

Wire = TypeVar("Wire", bound=Struct)
Value = TypeVar("Value")


class BodyError(ValueError):
    """A JSON body cannot be taken; the message is the sentence for the client."""


class TrailingContent(BodyError):
    """Something follows the JSON value."""

    def __init__(self) -> None:
        super().__init__("unexpected content after JSON")


_ZEROS: Mapping[object, JsonValue] = {dict: {}, list: [], str: "", bool: False, int: 0, float: 0}


def _as_go_reads(value: JsonValue, hint: object) -> JsonValue:
    """The value as `hint`'s Go type takes it. A struct finds its fields whatever the case of the keys, and a null in it is
    "not given"; in a map and a list a null keeps its place and stands for the zero value (docker-py asks for a network with
    {"EndpointsConfig": {"name": null}})."""
    fields, items, zero = _shape(hint)
    if isinstance(value, Mapping):
        if fields is not None:
            return {
                known[0]: _as_go_reads(item, known[1])
                for key, item in value.items()
                if item is not None and (known := fields.get(key) or fields.get(key.lower()))
            }
        return {key: _as_go_reads(item, items) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_go_reads(item, items) for item in value]
    return zero if value is None else value


@functools.cache
def _shape(hint: object) -> tuple[dict[str, tuple[str, object]] | None, object, JsonValue]:
    """A struct's fields by name, the type of a map's or list's members, the zero value; of a union, of its known member,
    unless null is one."""
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for member in members:
        if isinstance(member, type) and issubclass(member, Struct):
            known = {
                item.encode_name: (item.encode_name, item.type) for item in structs.fields(member)
            }
            return {name.lower(): field for name, field in known.items()} | known, None, {}
        origin = get_origin(member)
        if origin in (dict, list):
            return None, get_args(member)[-1], _ZEROS[origin]
    zero = next((_ZEROS[member] for member in members if member in _ZEROS), None)
    return None, None, None if NoneType in members else zero


def decode_parameter(text: str, kind: type[Value]) -> Value:
    """A parameter that is JSON. Raises BodyError."""
    try:
        return msgspec.convert(_as_go_reads(msgspec.json.decode(text), kind), kind)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BodyError(str(exc)) from exc


def decode_body(data: bytes, kind: type[Wire]) -> Wire:
    """Decodes a request's body. Raises BodyError with Docker's sentence where Docker has one."""
    try:
        document: JsonValue = msgspec.json.decode(data)
    except msgspec.DecodeError as exc:
        text = str(exc)
        if not data.strip():
            raise BodyError("invalid JSON: got EOF while reading request body") from exc
        if "truncated" in text:
            raise BodyError("invalid JSON: unexpected EOF") from exc
        if "trailing" in text:
            raise TrailingContent from exc
        raise BodyError(f"invalid JSON: {syntax_error(data) or text}") from exc
    except RecursionError as exc:
        raise BodyError("invalid JSON: exceeded max depth") from exc
    if document is None:
        return kind()
    try:
        return msgspec.convert(_as_go_reads(document, kind), kind)
    except msgspec.ValidationError as exc:
        raise BodyError(f"invalid JSON: {exc}") from exc
    except RecursionError as exc:
        raise BodyError("invalid JSON: exceeded max depth") from exc


def to_plain(value: object) -> object:
    """Structs as mappings by their Python names, without what was not given: input of `msgspec.convert`."""
    if isinstance(value, Struct):
        return {
            name: to_plain(item)
            for name in value.__struct_fields__
            if (item := getattr(value, name)) is not None and item is not UNSET
        }
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items() if item is not None}
    return value
