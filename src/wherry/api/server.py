"""The HTTP/1.1 server: one `HttpConnection` per client on asyncio's transports, one request at a time.

Theory of operation. Bytes collect in `_buffer`. In state HEAD a complete head starts a task for its handler;
in BODY the buffer is cut into the request's body as fast as the handler reads it; in BUSY the message is
complete, and what arrives is kept for the next request (pipelining) or for a hijack, which must not lose a byte
that the client sent ahead. Reading is paused whenever the buffer or the body's queue is full, and writing waits
for `resume_writing`, so that a slow peer never costs memory. A hijack writes its head, waits until the kernel has
it, duplicates the descriptor and forgets the connection: the socket then belongs to a shim, and no byte of it
passes through here. On TLS (`tls.py`) the shim gets one end of a socket pair instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Mapping
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Protocol, cast

from wherry.api.errors import error_response, find_status
from wherry.api.framing import HEAD_LIMIT, BodyReader, Head, ProtocolError, parse_head
from wherry.api.message import (
    Answer,
    Body,
    BodyBudget,
    ClientGone,
    Hijacked,
    Query,
    Request,
    Response,
    StreamResponse,
)
from wherry.api.router import (
    API_VERSION,
    MIN_API_VERSION,
    Match,
    Router,
    format_version,
    refuse_version,
    split_version,
)
from wherry.engine.streams import ClientStream
from wherry.model.errors import FULL_DISK, EngineError

logger = logging.getLogger(__name__)

_BACKLOG_LIMIT = 64 << 10
_HEAD_TIMEOUT_S = 60.0
_LINGER_S = 5.0
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_DATE = [0, b""]


class Transport(Protocol):
    """What a connection needs of its transport; asyncio's own, or TLS over one."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def dup(self) -> int | None:
        """A duplicate of the plain socket; None where the bytes on it are not plain."""

    async def detach(self) -> int:
        """Gives the connection up; returns a descriptor with the plain stream."""


class Application:
    """What all connections share: routes, header fields, and who is connected."""

    def __init__(self, product: str, router: Router | None = None) -> None:
        """`product` goes into the Server header: `Wherry/0.1.0 (linux)`."""
        self.router = router or Router(())
        self.connections: set[HttpConnection] = set()
        self.body_budget = BodyBudget()
        self.last_activity = time.monotonic()
        self.common_head = (
            f"Api-Version: {format_version(API_VERSION)}\r\nDocker-Experimental: false\r\n"
            f"Ostype: linux\r\nServer: {product}\r\n"
        ).encode()

    @property
    def busy_count(self) -> int:
        """How many requests are being answered."""
        return sum(connection.is_busy for connection in self.connections)

    def resolve(self, head: Head) -> tuple[Match | Response, str, Query, tuple[int, int]]:
        """The route of a request, or the answer when there is none."""
        target = head.target.decode("latin-1")
        if not target.startswith("/"):  # the absolute form, as to a proxy
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        asked, path = split_version(path)
        version = asked or API_VERSION
        known = max(MIN_API_VERSION, min(version, API_VERSION))
        if head.method == "OPTIONS":
            return Response(), path, Query(), version
        match = self.router.find(head.method, path, known)
        if match is None:
            return error_response(404, "page not found"), path, Query(), version
        refusal = refuse_version(version)
        return refusal or match, path, Query(query), version

    async def answer(self, match: Match, request: Request) -> Answer:
        """Runs the handler; every error becomes an answer here, and nowhere else."""
        try:
            return await match.route.handler(request)
        except EngineError as exc:
            return error_response(find_status(exc), str(exc))
        except ClientGone:
            raise
        except Exception as exc:  # an edge: a bad request must not end the engine
            if (
                isinstance(exc, OSError) and exc.errno in FULL_DISK
            ):  # a state of the machine, no bug
                logger.error("%s %s: %s", request.method, request.path, exc)
                what = f"write {exc.filename}: " if exc.filename else ""
                return error_response(500, f"{what}{os.strerror(exc.errno or 0).lower()}")
            logger.exception("%s %s failed", request.method, request.path)
            return error_response(500, f"internal error: {exc}")

    def build_head(
        self, status: int, content_type: str, headers: Mapping[str, str] | None, tail: str
    ) -> bytes:
        """The head of an answer; `tail` holds the framing fields."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n"]
        if content_type:
            lines.append(f"Content-Type: {content_type}\r\n")
        if headers:
            lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        return b"".join(
            (
                "".join(lines).encode("latin-1", "replace"),
                self.common_head,
                _date_line(),
                tail.encode(),
                b"\r\n",
            )
        )

    async def shutdown(self, patience_s: float) -> None:
        """Closes all connections: idle ones now, busy ones when they have answered or after the patience."""
        for connection in tuple(self.connections):
            connection.stop()
        tasks = [connection.task for connection in self.connections if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
        for connection in tuple(self.connections):
            connection.abort()


def _date_line() -> bytes:
    now = int(time.time())
    if now != _DATE[0]:
        _DATE[0] = now
        _DATE[1] = f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
    line = _DATE[1]
    assert isinstance(line, bytes)
    return line


class _State(Enum):
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    LINGER = "linger"
    HIJACKED = "hijacked"
    CLOSED = "closed"


class PlainTransport:
    """asyncio's stream transport with the two calls that a hijack needs."""

    __slots__ = (
        "_transport",
        "abort",
        "close",
        "is_closing",
        "pause_reading",
        "resume_reading",
        "set_write_buffer_limits",
        "write",
        "write_eof",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.write = transport.write
        self.close = transport.close
        self.abort = transport.abort
        self.is_closing = transport.is_closing
        self.write_eof = transport.write_eof
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_write_buffer_limits = transport.set_write_buffer_limits

    def dup(self) -> int | None:
        """A duplicate, not inheritable."""
        return os.dup(self._transport.get_extra_info("socket").fileno())

    async def detach(self) -> int:
        """Duplicates the descriptor and closes the transport, which only closes its own."""
        descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
        self._transport.abort()
        return descriptor


class HttpConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._transport: Transport | None = None
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._reader: BodyReader | None = None
        self._body: Body | None = None
        self._head: Head | None = None
        self._match: Match | None = None
        self._expects_continue = False
        self._eof = False
        self._stopping = False
        self._reading_paused = False
        self._head_size_checked = 0
        self._drained: asyncio.Future[None] | None = None
        self._writing_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.task is not None

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        # uvloop's transports are asyncio's by shape, not by class.
        self.open(PlainTransport(cast("asyncio.Transport", transport)))

    def open(self, transport: Transport) -> None:
        """Begins to serve on a transport."""
        self._transport = transport
        self._application.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have arrived."""
        if self._state is _State.LINGER:
            return
        self._buffer += data
        self._advance()

    def eof_received(self) -> bool:
        """asyncio: the client sends no more; answers to what it has sent still go out."""
        self._eof = True
        if self._body is not None:
            self._body.fail(ClientGone("the request is incomplete"))
        if self.task is None:
            return False
        if self._match is not None and self._match.route.cancel:
            self.task.cancel()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio: the connection is gone."""
        self._application.connections.discard(self)
        if self._state is _State.HIJACKED:
            return
        self._state = _State.CLOSED
        self._set_timer(None)
        self._buffer.clear()
        if self._body is not None:
            self._body.fail(ClientGone("the client has gone"))
        self.resume_writing()
        if self.task is not None and self._match is not None and self._match.route.cancel:
            self.task.cancel()

    def pause_writing(self) -> None:
        """asyncio: the peer does not keep up."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """asyncio: the peer has caught up."""
        self._writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- requests --------------------------------------------------------------------------------

    def _advance(self) -> None:
        try:
            if self._state is _State.HEAD:
                self._read_head()
            if self._state is _State.BODY:
                self._read_body()
        except ProtocolError as exc:
            self._refuse(exc)
            return
        full = self._state is not _State.HEAD and len(self._buffer) > _BACKLOG_LIMIT
        self._hold_reading(full or (self._body is not None and self._body.is_full))

    def _hold_reading(self, hold: bool) -> None:  # noqa: FBT001 - the one argument is the name's question
        if hold is self._reading_paused or self._eof or self._transport is None:
            return
        self._reading_paused = hold
        if hold:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _read_head(self) -> None:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":  # RFC 9112, 2.2: ignore an empty line before the request line
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", max(0, self._head_size_checked - 3))
        if end < 0:
            self._head_size_checked = len(buffer)
            if len(buffer) > HEAD_LIMIT:
                raise ProtocolError("header fields too large", 431)
            if buffer and self._timer is None:
                self._set_timer(_HEAD_TIMEOUT_S)
            return
        if end > HEAD_LIMIT:
            raise ProtocolError("header fields too large", 431)
        self._head_size_checked = 0
        self._set_timer(None)
        head = parse_head(bytes(buffer[: end + 4]))
        del buffer[: end + 4]
        self._begin(head)

    def _begin(self, head: Head) -> None:
        application = self._application
        application.last_activity = time.monotonic()
        found, path, query, version = application.resolve(head)
        self._head = head
        self._reader = BodyReader(head)
        self._body = body = Body(self._on_body_read, application.body_budget)
        self._expects_continue = (
            head.has_body
            and head.http_version == "1.1"
            and head.headers.get("expect", "").lower() == "100-continue"
        )
        if self._reader.done:
            body.finish()
            self._state = _State.BUSY
        else:
            self._state = _State.BODY
        request = Request(
            head=head,
            path=path,
            query=query,
            body=body,
            version=version,
            take_over=self._take_over,
            dup_connection=self._dup,
        )
        self._match = found if isinstance(found, Match) else None
        self.task = asyncio.get_running_loop().create_task(self._serve(found, request))

    def _read_body(self) -> None:
        reader, body = self._reader, self._body
        assert reader is not None
        assert body is not None
        while self._buffer and not reader.done and not body.is_full:
            size = len(self._buffer)
            reader.read(self._buffer, body.feed)
            if len(self._buffer) == size:
                break
        if reader.done:
            self._state = _State.BUSY
            body.finish()

    def _on_body_read(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._state in {_State.BODY, _State.BUSY}:
            self._advance()

    async def _serve(self, found: Match | Response, request: Request) -> None:
        try:
            if isinstance(found, Match):
                request.params = found.params
                answer = await self._application.answer(found, request)
            else:
                answer = found
            await self._send(answer, request.head)
        except (ClientGone, asyncio.CancelledError):
            self.abort()
            return
        except Exception:  # an edge: a stream that breaks must not end the engine
            logger.exception("%s %s: answer broken off", request.method, request.path)
            self.abort()
            return
        finally:
            self.task = None
            self._application.last_activity = time.monotonic()
        self._finish()

    async def _send(self, answer: Answer, head: Head) -> None:
        if isinstance(answer, StreamResponse):
            try:
                await self._send_answer(answer, head)
            finally:
                await answer.close()
        else:
            await self._send_answer(answer, head)

    async def _send_answer(self, answer: Answer, head: Head) -> None:
        if isinstance(answer, Hijacked) or self._state in {_State.HIJACKED, _State.CLOSED}:
            return
        self._expects_continue = False  # it would stand inside the answer
        if self._body is not None and not self._body.is_finished:
            # The rest of the body is not worth reading; where it ends is then unknown.
            head.keep_alive = False
        if self._stopping or self._eof:
            head.keep_alive = False
        connection = "" if head.keep_alive else "Connection: close\r\n"
        if head.keep_alive and head.http_version == "1.0":
            connection = "Connection: keep-alive\r\n"
        if isinstance(answer, StreamResponse):
            await self._send_stream(answer, head, connection)
        else:
            self._send_response(answer, head, connection)

    def _send_response(self, answer: Response, head: Head, connection: str) -> None:
        assert self._transport is not None
        body = answer.body
        if answer.status in {204, 304}:
            tail, body = connection, b""
        else:
            tail = f"{connection}Content-Length: {len(body)}\r\n"
        if head.method == "HEAD":
            body = b""
        data = self._application.build_head(
            answer.status, answer.content_type, answer.headers, tail
        )
        self._transport.write(data + body)

    async def _send_stream(self, answer: StreamResponse, head: Head, connection: str) -> None:
        assert self._transport is not None
        chunked = head.http_version == "1.1"
        if not chunked:
            head.keep_alive = False
            connection = "Connection: close\r\n"
        tail = connection + ("Transfer-Encoding: chunked\r\n" if chunked else "")
        self._transport.write(
            self._application.build_head(answer.status, answer.content_type, answer.headers, tail)
        )
        if head.method == "HEAD":
            return
        async for chunk in answer.chunks:
            if not chunk:
                continue
            if self._state is _State.CLOSED:
                if self._match is not None and not self._match.route.cancel:
                    continue  # to its end, with nobody to tell
                raise ClientGone("the client has gone")
            if chunked:
                self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            else:
                self._transport.write(chunk)
            if self._writing_paused:
                with contextlib.suppress(ClientGone):  # the next chunk is told
                    await self._drain()
        if self._state is not _State.CLOSED and chunked:
            self._transport.write(b"0\r\n\r\n")

    async def _drain(self) -> None:
        while self._writing_paused and self._state is not _State.CLOSED:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        if self._state is _State.CLOSED:
            raise ClientGone("the client has gone")

    def _finish(self) -> None:
        if self._state in {_State.HIJACKED, _State.CLOSED}:
            return
        head, body = self._head, self._body
        assert head is not None
        assert body is not None
        assert self._transport is not None
        if not head.keep_alive or self._stopping or (self._eof and not self._buffer):
            if body.is_finished:
                self._transport.close()
            else:
                self._linger()
            return
        self._head = self._body = self._reader = self._match = None
        self._state = _State.HEAD
        self._advance()
        if self._eof and self.task is None and not self._transport.is_closing():
            self._transport.close()

    def _linger(self) -> None:
        """Closes so that a client that still sends gets the answer instead of a reset."""
        assert self._transport is not None
        self._state = _State.LINGER
        self._buffer.clear()
        if self._body is not None:
            self._body.discard()
        self._hold_reading(False)  # noqa: FBT003 - see _hold_reading
        if self._eof:
            self._transport.close()
            return
        self._transport.write_eof()
        self._set_timer(_LINGER_S)

    def _refuse(self, error: ProtocolError) -> None:
        logger.debug("bad request: %s", error)
        if self._body is not None:
            self._body.fail(ClientGone(str(error)))
        if self.task is not None or self._transport is None:
            self.abort()
            return
        text = f"{error.status} {_REASONS.get(error.status, 'Bad Request')}: {error}"
        self._transport.write(
            self._application.build_head(
                error.status,
                "text/plain; charset=utf-8",
                None,
                f"Connection: close\r\nContent-Length: {len(text.encode())}\r\n",
            )
            + text.encode()
        )
        self._linger()

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    # -- ends and hijacks ------------------------------------------------------------------------

    def stop(self) -> None:
        """Serves the request that is being answered, and no more; endless answers end now."""
        self._stopping = True
        if self.task is None:
            if self._transport is not None:
                self._transport.close()
        elif self._match is not None and self._match.route.cancel:
            self.task.cancel()

    def abort(self) -> None:
        """Drops the connection."""
        if self._transport is not None and self._state is not _State.HIJACKED:
            self._transport.abort()

    def _dup(self) -> int | None:
        if self._transport is None or self._transport.is_closing():
            raise ClientGone("the client has gone")
        return self._transport.dup()

    async def _take_over(self, head: bytes) -> ClientStream:
        if self._transport is None or self._state is _State.CLOSED or self._transport.is_closing():
            raise ClientGone("the client has gone")
        if self._state is not _State.BUSY:
            raise ClientGone("the request is incomplete")
        self._state = _State.HIJACKED
        if not self._eof:
            self._transport.pause_reading()
        self._transport.set_write_buffer_limits(high=0)
        self._transport.write(head)
        try:
            await self._drain()
            descriptor = await self._transport.detach()
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._application.connections.discard(self)
        early = bytes(self._buffer)
        self._buffer.clear()
        return ClientStream(descriptor, early)
