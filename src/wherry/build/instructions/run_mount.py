"""`RUN --mount=type=bind|cache|tmpfs|secret|ssh,...`: one mount of one RUN."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

from wherry.build.errors import SyntaxProblem, suggest
from wherry.build.words import quote_go
from wherry.lib.booleans import BOOLEANS

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
KEYS = (
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "size",
    "env",
)
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP]?)(?:[iI]?[bB])?")
FILE_TYPES = frozenset({"secret", "ssh", "cache"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMount:
    """One mount; `id` names a cache, secret or agent."""

    type: str = "bind"
    from_: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = True
    id: str = ""
    sharing: str = ""
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size_bytes: int = 0
    env: str | None = None


def check_mount_text(text: str) -> None:
    """What can be checked before variables are known. Raises SyntaxProblem."""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from" and re.search(r"\$.", value):
            raise SyntaxProblem(
                "'from' doesn't support variable expansion, define alias stage instead", field
            )
    if "$" not in text:
        parse_mount(text, lambda value: value)


def parse_mount(text: str, expand: Callable[[str], str]) -> RunMount:
    """The mount. Raises SyntaxProblem with BuildKit's sentences."""
    values: dict[str, str] = {}
    mount_type = "bind"
    read_only: bool | None = None
    required = False
    env: str | None = None
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        value = expand(value) if equals else value
        if key in {"readonly", "ro"}:
            read_only = _bool(key, value) if equals else True
        elif key in {"readwrite", "rw"}:
            read_only = not _bool(key, value) if equals else False
        elif key == "required":
            if mount_type not in {"secret", "ssh"}:
                raise SyntaxProblem(f"unexpected key '{key}' for mount type '{mount_type}'", field)
            required = _bool(key, value) if equals else True
        elif key == "env" and mount_type == "secret":
            env = value
        elif not equals:
            raise SyntaxProblem(f"invalid field '{field}' must be a key=value pair", field)
        elif key == "type":
            mount_type = value.lower()
            if mount_type not in TYPES:
                raise SyntaxProblem(
                    f"unsupported mount type {quote_go(value)}" + suggest(value, TYPES), field
                )
        elif key in KEYS:
            if key == "size" and mount_type != "tmpfs":
                raise SyntaxProblem(f"unexpected key '{key}' for mount type '{mount_type}'", field)
            values[_canonical(key)] = value
        else:
            raise SyntaxProblem(f"unexpected key '{key}' in '{field}'" + suggest(key, KEYS), field)
    return _build(text, values, mount_type, read_only=read_only, required=required, env=env)


def _build(
    text: str,
    values: dict[str, str],
    mount_type: str,
    *,
    read_only: bool | None,
    required: bool,
    env: str | None,
) -> RunMount:
    for key in ("mode", "uid", "gid"):
        if key in values and mount_type not in FILE_TYPES:
            raise SyntaxProblem(f"{key} not allowed for {quote_go(mount_type)} type mounts", text)
    sharing = values.get("sharing", "").lower()
    if sharing and sharing not in SHARING:
        raise SyntaxProblem(
            f"unsupported sharing value {quote_go(sharing)}" + suggest(sharing, SHARING), text
        )
    if mount_type == "secret":
        _check_secret(text, values, sharing=sharing, env=env)
    if sharing and mount_type != "cache":
        raise SyntaxProblem(f"invalid cache sharing set for {mount_type} mount", text)
    if read_only is None:
        read_only = mount_type not in {"cache", "tmpfs"}
    return RunMount(
        type=mount_type,
        from_=values.get("from", ""),
        source=values.get("source", ""),
        target=values.get("target", ""),
        read_only=read_only,
        id=values.get("id", ""),
        sharing=sharing,
        required=required,
        mode=_number(values, "mode", 8),
        uid=_number(values, "uid", 10),
        gid=_number(values, "gid", 10),
        size_bytes=_size(values.get("size", "")),
        env=env,
    )


def _check_secret(text: str, values: dict[str, str], *, sharing: str, env: str | None) -> None:
    if values.get("from"):
        raise SyntaxProblem("secret mount should not have a from", text)
    if sharing:
        raise SyntaxProblem("secret mount should not define sharing", text)
    if not values.get("source") and not values.get("target") and not values.get("id") and not env:
        raise SyntaxProblem("invalid secret mount. one of source, target required", text)
    if values.get("source") and values.get("id"):
        raise SyntaxProblem("both source and id can't be set", text)


def _fields(text: str) -> list[str]:
    try:
        return next(iter(csv.reader([text], strict=True)), [])
    except csv.Error as error:
        raise SyntaxProblem(f"failed to parse csv mounts: {error}", text) from None


def _canonical(key: str) -> str:
    return {"src": "source", "dst": "target", "destination": "target"}.get(key, key)


def _bool(key: str, value: str) -> bool:
    if value not in BOOLEANS:
        raise SyntaxProblem(f"invalid value for {key}: {value}", value)
    return BOOLEANS[value]


def _number(values: dict[str, str], key: str, base: int) -> int | None:
    text = values.get(key)
    if text is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 12 or any(digit not in digits for digit in text):
        raise SyntaxProblem(f"invalid value {text} for {key}", text)
    return int(text, base)


def _size(text: str) -> int:
    if not text:
        return 0
    match = SIZE.fullmatch(text)
    if match is None or len(text) > 24:
        raise SyntaxProblem(f"invalid value for size: {text}", text)
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))
