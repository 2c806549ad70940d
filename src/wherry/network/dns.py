"""DNS messages, as far as the resolver of containers reads and writes them (RFC 1035). Pure.

A question's name is kept as text in lower case; what is asked of other servers travels as it came.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

A = 1
PTR = 12
AAAA = 28
IN = 1

NO_ERROR = 0
FORMAT_ERROR = 1
SERVER_FAILURE = 2

TTL_S = 600
DATAGRAM_BYTES = 512  # of an answer to who did not say that it takes more

_HEADER = struct.Struct(">HHHHHH")
_RESPONSE = 0x8000
_OPCODE = 0x7800
_TRUNCATED = 0x0200
_RECURSION_DESIRED = 0x0100
_RECURSION_AVAILABLE = 0x0080
_NAME_OF_QUESTION = b"\xc0\x0c"  # a pointer to the first byte after the header
_LABEL_BYTES = 63


class MessageError(Exception):
    """It is no question that one can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question: its name without the last dot, and the bytes that an answer repeats."""

    identity: int
    flags: int
    name: str
    kind: int
    section: bytes


def parse_question(message: bytes) -> Question:
    """The question of a query. Raises MessageError."""
    if len(message) < _HEADER.size:
        raise MessageError("shorter than a header")
    identity, flags, questions, *_ = _HEADER.unpack_from(message)
    if flags & (_RESPONSE | _OPCODE) or questions != 1:
        raise MessageError("not one standard query")
    labels, offset = [], _HEADER.size
    while True:
        if offset >= len(message):
            raise MessageError("the name does not end")
        length = message[offset]
        offset += 1
        if length == 0:
            break
        if length > _LABEL_BYTES:
            raise MessageError("a pointer in a question")
        labels.append(message[offset : offset + length])
        offset += length
    if len(message) < offset + 4:
        raise MessageError("no type")
    kind, group = struct.unpack_from(">HH", message, offset)
    if group != IN:
        raise MessageError("not of the internet")
    return Question(
        identity=identity,
        flags=flags,
        name=b".".join(labels).decode("latin-1").lower(),
        kind=kind,
        section=message[_HEADER.size : offset + 4],
    )


def build_answer(question: Question, values: Sequence[bytes], *, limit: int = 0) -> bytes:
    """Records of the question's type and name; with `limit`, as many as fit, and then marked as cut off."""
    records = [
        _NAME_OF_QUESTION + struct.pack(">HHIH", question.kind, IN, TTL_S, len(value)) + value
        for value in values
    ]
    size = _HEADER.size + len(question.section)
    flags = 0
    if limit and size + sum(map(len, records)) > limit:
        flags = _TRUNCATED
        records = records[: max(0, limit - size) // len(records[0])]
    return _head(question, flags | NO_ERROR, len(records)) + b"".join(records)


def build_refusal(question: Question, code: int) -> bytes:
    """An answer that is an error."""
    return _head(question, code, 0)


def _head(question: Question, flags: int, answers: int) -> bytes:
    flags |= _RESPONSE | _RECURSION_AVAILABLE | question.flags & _RECURSION_DESIRED
    return _HEADER.pack(question.identity, flags, 1, answers, 0, 0) + question.section


def is_answer_to(question: Question, message: bytes) -> bool:
    """Whether another server's message is the answer to this question and not a failure of that server."""
    if len(message) < _HEADER.size:
        return False
    identity, flags, *_ = _HEADER.unpack_from(message)
    return identity == question.identity and bool(flags & _RESPONSE)


def is_failure(message: bytes) -> bool:
    """Whether another server could not find out: then the next one is asked."""
    return message[3] & 0xF == SERVER_FAILURE


def encode_name(name: str) -> bytes:
    """A domain name as labels; too long labels are cut."""
    labels = [label.encode("latin-1", "replace")[:_LABEL_BYTES] for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0"


def parse_reverse(name: str) -> str:
    """`2.0.18.172.in-addr.arpa` → `172.18.0.2`; "" for any other name."""
    digits = name.removesuffix(".in-addr.arpa")
    if digits == name:
        return ""
    try:
        return str(ipaddress.IPv4Address(".".join(reversed(digits.split(".")))))
    except ValueError:
        return ""


def split_network(name: str) -> Iterator[tuple[str, str]]:
    """The ways to read a name as a container's and a network's: `a.b` → (`a.b`, any network), (`a`, `b`)."""
    yield name, ""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:count]), ".".join(parts[count:])
