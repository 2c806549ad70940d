"""JSON of unknown shape, read-only, with typed getters whose errors name the path of keys.

Knows nothing of what the JSON means. Used where a document is not ours (OCI config.json, registry
answers); our own records are decoded by msgspec in the layers that may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = (
    "None | bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue]"
)
JsonObject: TypeAlias = "Mapping[str, JsonValue]"


class JsonError(ValueError):
    """A value has another type than the reader needs; the message names the key."""


def get_str(document: JsonObject, key: str, default: str = "") -> str:
    """The string at `key`, or `default` when it is absent or null."""
    value = document.get(key)
    if value is None:
        return default
    if isinstance(value, str):
        return value
    raise JsonError(f"{key}: expected a string, got {type(value).__name__}")


def get_int(document: JsonObject, key: str, default: int = 0) -> int:
    """The integer at `key`, or `default` when it is absent or null."""
    value = document.get(key)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise JsonError(f"{key}: expected an integer, got {type(value).__name__}")


def get_bool(document: JsonObject, key: str, *, default: bool = False) -> bool:
    """The boolean at `key`, or `default` when it is absent or null."""
    value = document.get(key)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    raise JsonError(f"{key}: expected true or false, got {type(value).__name__}")


def get_object(document: JsonObject, key: str) -> JsonObject:
    """The object at `key`; empty when it is absent or null."""
    value = document.get(key)
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    raise JsonError(f"{key}: expected an object, got {type(value).__name__}")


def get_list(document: JsonObject, key: str) -> Sequence[JsonValue]:
    """The array at `key`; empty when it is absent or null."""
    value = document.get(key)
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value
    raise JsonError(f"{key}: expected an array, got {type(value).__name__}")


def get_strings(document: JsonObject, key: str) -> tuple[str, ...]:
    """The array of strings at `key`; empty when it is absent or null."""
    values = get_list(document, key)
    strings = tuple(value for value in values if isinstance(value, str))
    if len(strings) != len(values):
        raise JsonError(f"{key}: expected an array of strings")
    return strings


def get_objects(document: JsonObject, key: str) -> tuple[JsonObject, ...]:
    """The array of objects at `key`; empty when it is absent or null."""
    values = get_list(document, key)
    objects = tuple(value for value in values if isinstance(value, Mapping))
    if len(objects) != len(values):
        raise JsonError(f"{key}: expected an array of objects")
    return objects
