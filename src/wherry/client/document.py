"""JSON documents of the Engine API: decode, encode, and read members by type.

Theory of operation: `import json` costs a tenth of a command's whole run, because json imports re. Its
C scanner and encoder do not need it, so they are used directly; an interpreter without them falls
back to json. Documents stay plain dicts and lists; the getters treat a member of another type as
absent, because an answer of a newer engine must not break an older client.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
    Document: TypeAlias = "dict[str, Json]"
else:
    # For annotations that are evaluated; typing is not imported for them.
    Document = dict
    Json = object


# The scanner takes the class of its error from json.decoder, and gives none when that is not imported.
_SYNTAX_ERRORS = (StopIteration, ValueError, SystemError)


class _ScannerContext:
    """What the C scanner reads of a json.JSONDecoder."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _reject(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


class MalformedDocument(ValueError):
    """The bytes are not JSON."""


def decode(text: bytes | str) -> Json:
    """The value that `text` holds; raises MalformedDocument."""
    if not isinstance(text, str):
        text = str(text, "utf-8", "replace")
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except _SYNTAX_ERRORS as exc:
        raise MalformedDocument(f"not JSON: {text[:80]!r}") from exc
    if end != len(text):
        raise MalformedDocument(f"not JSON: {text[:80]!r}")
    return value


def decode_stream(text: str) -> tuple[list[Json], str]:
    """The complete values at the start of `text`, and the rest that is not complete yet."""
    values: list[Json] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at >= len(text):
            return values, ""
        try:
            value, end = _scan(text, at)
        except _SYNTAX_ERRORS:
            return values, text[at:]
        values.append(value)
        at = end


def encode(value: Json) -> str:
    """`value` as compact JSON."""
    return "".join(_encode(value, 0))


def text_of(document: Document, key: str) -> str:
    """The string at `key`, else an empty one."""
    value = document.get(key)
    return value if isinstance(value, str) else ""


def number_of(document: Document, key: str) -> int:
    """The integer at `key`, else 0."""
    value = document.get(key)
    if isinstance(value, bool):
        return 0
    if isinstance(value, float):
        return int(value)
    return value if isinstance(value, int) else 0


def flag_of(document: Document, key: str) -> bool:
    """True if `key` is true."""
    return document.get(key) is True


def mapping_of(document: Document, key: str) -> Document:
    """The object at `key`, else an empty one."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def list_of(document: Document, key: str) -> list[Json]:
    """The array at `key`, else an empty one."""
    value = document.get(key)
    return value if isinstance(value, list) else []


def strings_of(document: Document, key: str) -> list[str]:
    """The strings of the array at `key`."""
    return [item for item in list_of(document, key) if isinstance(item, str)]


def documents_of(document: Document, key: str) -> list[Document]:
    """The objects of the array at `key`."""
    return [item for item in list_of(document, key) if isinstance(item, dict)]


def as_document(value: Json) -> Document:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_documents(value: Json) -> list[Document]:
    """The objects of `value` if it is an array."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]


if TYPE_CHECKING:

    def _scan(text: str, at: int) -> tuple[Json, int]: ...

    def _encode(value: Json, level: int) -> list[str]: ...

else:
    try:
        from _json import encode_basestring, make_encoder, make_scanner

        _scan = make_scanner(_ScannerContext)
        # markers, default, encoder, indent, separators, sort_keys, skipkeys, allow_nan
        _encode = make_encoder(None, _reject, encode_basestring, None, ":", ",", *(False,) * 3)
    except ImportError:
        import json

        _scan = json.JSONDecoder(strict=False).scan_once
        _encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)

        def _encode(value: Json, _level: int) -> list[str]:
            return [_encoder.encode(value)]
