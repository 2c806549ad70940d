"""Requests as handlers see them, and the answers they return. Knows nothing of sockets.

An answer is one of: `Response` (all bytes known), `StreamResponse` (chunks as they come; the head is sent at
once), or `HIJACKED` after the handler has taken the connection over.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from wherry.api.framing import Head
from wherry.engine.streams import ClientStream
from wherry.model.errors import EngineError, Internal, InvalidArgument, Unavailable
from wherry.wire.base import BodyError, Wire, decode_body

JSON_TYPE = "application/json"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"
JSON_BODY_LIMIT = 32 << 20
_QUEUE_LIMIT = 256 << 10
_FREE_BODY_BYTES = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_FALSE = frozenset(["", "0", "no", "false", "none"])

Encodable = TypeVar("Encodable", bound=object)


class BodyTooLarge(EngineError):
    """A body is over the limit of its kind."""


class ClientGone(Exception):
    """The client closed the connection in the middle of its request."""


class BodyBudget:
    """What large bodies that are read whole may take together, on all connections of a server.

    A body's first MiB is free, so that nobody keeps others from ordinary requests by not ending large ones.
    """

    __slots__ = ("_left",)

    def __init__(self, size_bytes: int = 4 * JSON_BODY_LIMIT) -> None:
        self._left = size_bytes

    def take(self, size: int) -> None:
        """Raises Unavailable when there is not as much."""
        if size > self._left:
            raise Unavailable("too many large requests at once, try again later")
        self._left -= size

    def give_back(self, size: int) -> None:
        """What was taken."""
        self._left += size


class Body:
    """A request's body: bytes in the order of arrival, with back-pressure to the connection.

    `feed`, `finish` and `fail` are the connection's; everything else is the handler's.
    """

    __slots__ = ("_budget", "_chunks", "_error", "_finished", "_on_read", "_size", "_waiter")

    def __init__(
        self, on_read: Callable[[], None] | None = None, budget: BodyBudget | None = None
    ) -> None:
        self._budget = budget or BodyBudget()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._finished = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_read = on_read

    @property
    def is_full(self) -> bool:
        """Whether the handler is behind."""
        return self._size >= _QUEUE_LIMIT

    @property
    def is_finished(self) -> bool:
        """Whether all of it has arrived."""
        return self._finished

    def feed(self, data: bytes) -> bool:
        """Adds bytes; False = hold back more."""
        if data:
            self._chunks.append(data)
            self._size += len(data)
            self._wake()
        return not self.is_full

    def finish(self) -> None:
        """The last byte has arrived."""
        self._finished = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """No more can come; readers get the error after what has arrived."""
        if not self._finished:
            self._error = error
            self._wake()

    def discard(self) -> None:
        """Drops what has arrived and has not been read."""
        self._chunks.clear()
        self._size = 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._finished:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            if self._on_read is not None:
                self._on_read()
                if self._chunks or self._finished:
                    continue
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        was_full = self.is_full
        self._size -= len(data)
        if was_full and not self.is_full and self._on_read is not None:
            self._on_read()
        return data

    async def read(self, limit: int = JSON_BODY_LIMIT) -> bytes:
        """All of it. Raises BodyTooLarge, Unavailable."""
        data = await self._collect(limit + 1)
        if len(data) > limit:
            raise BodyTooLarge(f"request body is larger than {limit} bytes")
        return bytes(data)

    async def read_ahead(self, count: int) -> bytes:
        """The next `count` bytes, fewer only at the end; what follows them is still to be read. Raises Unavailable."""
        data = await self._collect(count)
        rest = bytes(data[count:])
        if rest:
            self._chunks.appendleft(rest)
            self._size += len(rest)
        return bytes(data[:count])

    async def _collect(self, count: int) -> bytearray:
        """Pieces until they are `count` bytes or more, or the end."""
        data = bytearray()  # pieces kept apart would cost many times their size when they are small
        taken = 0
        try:
            while len(data) < count:
                try:
                    piece = await anext(self)
                except StopAsyncIteration:
                    break
                data += piece
                if len(data) > _FREE_BODY_BYTES:
                    self._budget.take(len(piece))
                    taken += len(piece)
            return data
        finally:
            self._budget.give_back(taken)


class Query:
    """Parameters of the request target, read as dockerd's httputils reads them.

    What is not UTF-8 becomes U+FFFD, as Go's JSON would write it; only paths of files keep their bytes.
    """

    __slots__ = ("_text", "_values")

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._values: dict[str, list[str]] = {}
        if text:
            for name, value in parse_qsl(text, keep_blank_values=True):
                self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: str = "") -> str:
        """The first value."""
        values = self._values.get(name)
        return values[0] if values else default

    def get_path(self, name: str) -> str:
        """The first value as os.fsdecode would give it."""
        pairs = parse_qsl(self._text, keep_blank_values=True, errors="surrogateescape")
        return next((value for key, value in pairs if key == name), "")

    def get_all(self, name: str) -> Sequence[str]:
        """All values, in order."""
        return self._values.get(name, ())

    def flag(self, name: str, *, default: bool = False) -> bool:
        """False for "", 0, no, false, none; true for anything else."""
        if name not in self._values:
            return default
        return self.get(name).strip().lower() not in _FALSE

    def number(self, name: str) -> int | None:
        """A decimal number, None when it is absent or empty. Raises InvalidNumber."""
        text = self.get(name)
        return parse_go_int(text) if text else None


class InvalidNumber(Internal):
    """A parameter is not a number; dockerd lets strconv's error through, as 500."""

    def __init__(self, text: str, function: str = "Atoi") -> None:
        super().__init__(f'strconv.{function}: parsing "{text}": invalid syntax')


def parse_go_int(text: str, function: str = "Atoi") -> int:
    """What strconv.Atoi takes. Raises InvalidNumber."""
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise InvalidNumber(text, function)
    return int(text)


class Hijacked(Enum):
    """The type of HIJACKED."""

    HIJACKED = "hijacked"


HIJACKED = Hijacked.HIJACKED


class Response:
    """A complete answer."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


@dataclass(slots=True)
class StreamResponse:
    """An answer in pieces. Its head goes out before the first piece is asked for.

    `release` is called in the end in any case; a generator that was never started has no `finally`.
    """

    chunks: AsyncIterator[bytes]
    content_type: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    release: Callable[[], None] | None = None

    async def close(self) -> None:
        """Ends the source of the pieces."""
        close = getattr(self.chunks, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            if self.release is not None:
                self.release()


Answer = Response | StreamResponse | Hijacked
NO_CONTENT = Response(204)


def json_response(value: object, status: int = 200) -> Response:
    """JSON with the newline that Go's encoder writes."""
    return Response(status, encode_json(value) + b"\n", JSON_TYPE)


def encode_json(value: object) -> bytes:
    """JSON; what is no UTF-8 (names in a container's file system need not be) becomes U+FFFD, as in Go."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return _SURROGATE.sub("\ufffd", text).encode()


TakeOver = Callable[[bytes], Awaitable[ClientStream]]
"""Writes the given head and gives the bare connection up."""

DupConnection = Callable[[], "int | None"]
"""A duplicate of the client's descriptor; None where the engine must stay in the path (TLS)."""


@dataclass(slots=True)
class Request:
    """One request. `version` is the API version it speaks, `params` are the parts of its path."""

    head: Head
    path: str
    query: Query
    body: Body
    version: tuple[int, int]
    take_over: TakeOver
    dup_connection: DupConnection
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """GET, POST, …"""
        return self.head.method

    def header(self, name: str) -> str:
        """A header field by its lower-case name; "" when it is absent."""
        return self.head.headers.get(name, "")

    async def json(self, kind: type[Wire]) -> Wire:
        """The body as JSON; an empty one stands for all defaults. Raises InvalidArgument."""
        data = await self._read_json()
        return self._decode(data, kind) if data else kind()

    async def required_json(self, kind: type[Wire]) -> Wire:
        """The body as JSON, which may not be empty. Raises InvalidArgument."""
        return self._decode(await self._read_json(), kind)

    async def _read_json(self) -> bytes:
        content_type = self.header("content-type")
        data = await self.body.read()
        if not data and not content_type:
            return data
        media_type = content_type.partition(";")[0].strip().lower()
        if not media_type:
            raise InvalidArgument(
                f"malformed Content-Type header ({content_type}): mime: no media type"
            )
        if media_type != JSON_TYPE:
            raise InvalidArgument(
                f"unsupported Content-Type header ({content_type}): must be 'application/json'"
            )
        return data

    def _decode(self, data: bytes, kind: type[Wire]) -> Wire:
        try:
            return decode_body(data, kind)
        except BodyError as exc:
            raise InvalidArgument(str(exc)) from exc
