"""What the Engine API's JSON structs share: Go's names, Go's idea of null, Go's `omitempty`.

A field that Go leaves out when it is empty has the default UNSET; every other field is always written, in
the order of the class. Decoding ignores unknown keys and takes null for "not given", as Go's decoder does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct

from wherry.lib.jsonvalue import JsonValue

Wire = TypeVar("Wire", bound=Struct)


class BodyError(ValueError):
    """A JSON body cannot be taken; the message is the sentence for the client."""


class TrailingContent(BodyError):
    """Something follows the JSON value."""

    def __init__(self) -> None:
        super().__init__("unexpected content after JSON")


# In a map (not a struct) a null keeps its key and stands for the zero value: docker-py asks for a network with
# {"EndpointsConfig": {"name": null}}.
_ZERO_OF_MAP: Mapping[str, JsonValue] = {
    "EndpointsConfig": {},
    "ExposedPorts": {},
    "Volumes": {},
    "PortBindings": [],
    "Labels": "",
    "Sysctls": "",
    "Options": "",
    "DriverOpts": "",
}


def drop_nulls(value: JsonValue, zero: JsonValue = None) -> JsonValue:
    """The value without members that are null, at any depth; members of maps get their zero value."""
    if isinstance(value, Mapping):
        return {
            key: zero if item is None else drop_nulls(item, _ZERO_OF_MAP.get(key))
            for key, item in value.items()
            if item is not None or zero is not None
        }
    if isinstance(value, list):
        return [drop_nulls(item) for item in value]
    return value


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
        raise BodyError(f"invalid JSON: {text}") from exc
    except RecursionError as exc:
        raise BodyError("invalid JSON: exceeded max depth") from exc
    if document is None:
        return kind()
    try:
        return msgspec.convert(drop_nulls(document), kind)
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
