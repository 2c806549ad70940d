"""The HTTP server on its own: framing, keep-alive, back-pressure, hijack, and what hostile clients send."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.dialogue import DEADLINE_S, build_application, connect, run
from wherry.api.framing import BodyReader, ProtocolError, parse_head
from wherry.api.message import HIJACKED, Answer, Body, BodyBudget, Request, Response, StreamResponse
from wherry.api.router import Route
from wherry.api.server import Application
from wherry.api.stream import make_hijack
from wherry.engine.streams import ClientStream
from wherry.model.errors import NoSuchContainer, Unavailable


class Handlers:
    """Small handlers that show what the server does."""

    def __init__(self) -> None:
        self.hijacked: asyncio.Future[ClientStream] | None = None
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.received = 0
        self.written = 0
        self.application = build_application(
            [
                Route("GET", "/_ping", self.ping),
                Route("HEAD", "/_ping", self.ping),
                Route("POST", "/echo", self.echo),
                Route("POST", "/count", self.count),
                Route("POST", "/ignore", self.ping),
                Route("POST", "/hold", self.hold),
                Route("GET", "/flood", self.flood, cancel=True),
                Route("GET", "/endless", self.endless, cancel=True),
                Route("GET", "/broken", self.broken),
                Route("GET", "/missing", self.missing),
                Route("GET", "/bug", self.bug),
                Route("POST", "/attach", self.attach),
                Route("GET", "/three", self.three),
                Route("GET", "/images/{name:path}/json", self.name),
            ]
        )

    async def ping(self, request: Request) -> Answer:
        return Response(200, b"OK", "text/plain")

    async def name(self, request: Request) -> Answer:
        return Response(200, request.params["name"].encode("utf-8", "surrogateescape"))

    async def echo(self, request: Request) -> Answer:
        return Response(200, await request.body.read())

    async def count(self, request: Request) -> Answer:
        async for piece in request.body:
            self.received += len(piece)
            self.started.set()
            await self.finish.wait()
        return Response(200, str(self.received).encode())

    async def hold(self, request: Request) -> Answer:
        self.started.set()
        await self.finish.wait()
        self.received = 1
        return Response(204)

    async def three(self, request: Request) -> Answer:
        async def pieces():
            for number in range(3):
                yield b"%d" % number
                await asyncio.sleep(0)

        return StreamResponse(pieces(), "text/plain")

    async def flood(self, request: Request) -> Answer:
        async def pieces():
            try:
                while True:
                    self.written += 1
                    yield b"x" * 65536
            finally:
                self.cancelled.set()

        return StreamResponse(pieces())

    async def endless(self, request: Request) -> Answer:
        async def pieces():
            try:
                await asyncio.Event().wait()
                yield b""
            finally:
                self.cancelled.set()

        return StreamResponse(pieces(), "application/json")

    async def broken(self, request: Request) -> Answer:
        async def pieces():
            yield b"half"
            raise OSError("the disk is gone")

        return StreamResponse(pieces())

    async def missing(self, request: Request) -> Answer:
        raise NoSuchContainer("x")

    async def bug(self, request: Request) -> Answer:
        raise ZeroDivisionError

    async def attach(self, request: Request) -> Answer:
        await request.body.read()
        stream = await make_hijack(request, self.application.common_head)(True)
        assert self.hijacked is not None
        self.hijacked.set_result(stream)
        return HIJACKED


def test_keep_alive_serves_one_request_after_the_other() -> None:
    async def talk() -> None:
        handlers = Handlers()
        async with connect(handlers.application) as client:
            for _ in range(3):
                status, headers, body = await client.request("GET", "/v1.44/_ping")
                assert (status, body) == (200, b"OK")
                assert headers["api-version"] == "1.51"
                assert headers["server"] == "Wherry/test (linux)"
                assert headers["ostype"] == "linux"
                assert headers["docker-experimental"] == "false"
                assert "connection" not in headers

    run(talk)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(
                b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\n1"
                b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n23\r\n0\r\n\r\n"
                b"GET /three HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n"
            )
            assert [(await client.answer())[2] for _ in range(3)] == [b"1", b"23", b"012"]
            status, headers, body = await client.answer()
            assert (status, body) == (404, b'{"message":"page not found"}\n')
            assert headers["content-type"] == "application/json"

    run(talk)


def test_head_has_no_body() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            status, headers, _ = await client.request("HEAD", "/_ping")
            assert status == 200
            assert headers["content-length"] == "2"
            assert (await client.request("GET", "/_ping"))[2] == b"OK"

    run(talk)


def test_names_of_images_may_hold_slashes_and_escapes() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            target = "/v1.51/images/localhost:5000/a%2Fb%C3%A9/c:latest/json?x=1"
            _, _, body = await client.request("GET", target)
            assert body.decode() == "localhost:5000/a/bé/c:latest"

    run(talk)


@pytest.mark.parametrize(
    ("version", "status", "content_type", "body"),
    [
        (
            "v1.23",
            400,
            "text/plain; charset=utf-8",
            (
                b"client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade"
                b" your client to a newer version\n"
            ),
        ),
        (
            "v1.52",
            400,
            "application/json",
            b'{"message":"client version 1.52 is too new. Maximum supported API version is 1.51"}\n',
        ),
        ("v1.x", 404, "application/json", b'{"message":"page not found"}\n'),
        ("v999999999999.1", 404, "application/json", b'{"message":"page not found"}\n'),
    ],
)
def test_versions_out_of_range(version: str, status: int, content_type: str, body: bytes) -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            answer = await client.request("GET", f"/{version}/_ping")
            assert (answer[0], answer[1]["content-type"], answer[2]) == (status, content_type, body)

    run(talk)


def test_a_browser_may_ask_what_it_may() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            for path in ("/", "/v1.51/missing"):
                status, headers, body = await client.request("OPTIONS", path)
                assert (status, headers["content-length"], body) == (200, "0", b"")

    run(talk)


def test_an_error_kind_becomes_its_status_and_sentence() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            status, _, body = await client.request("GET", "/missing")
            assert (status, body) == (404, b'{"message":"No such container: x"}\n')

    run(talk)


def test_a_bug_in_a_handler_is_answered_and_the_connection_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            assert (await client.request("GET", "/bug"))[0] == 500
            assert (await client.request("GET", "/_ping"))[0] == 200

    run(talk)
    assert "GET /bug failed" in caplog.text


def test_expect_continue_is_answered_when_the_body_is_wanted() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(
                b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"abc")
            assert (await client.answer())[2] == b"abc"

    run(talk)


def test_a_body_that_nobody_reads_ends_the_connection_after_the_answer() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(b"POST /ignore HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
            status, headers, body = await client.answer()
            assert (status, body, headers["connection"]) == (200, b"OK", "close")
            for _ in range(64):  # a client that goes on sending is not reset
                await client.send(b"x" * 65536)
            client.half_close()
            assert await client.read_to_end() == b""

    run(talk)


def test_a_client_that_half_closes_still_gets_its_answer() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
            client.half_close()
            assert (await client.read_to_end()).endswith(b"hi")

    run(talk)


def test_http_1_0_gets_no_chunks() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(b"GET /three HTTP/1.0\r\n\r\n")
            answer = await client.read_to_end()
            assert answer.endswith(b"\r\n\r\n012")
            assert b"chunked" not in answer

    run(talk)


def test_a_slow_handler_holds_the_sender_back() -> None:
    async def talk() -> None:
        handlers = Handlers()
        async with connect(handlers.application) as client:
            await client.send(b"POST /count HTTP/1.1\r\nContent-Length: 33554432\r\n\r\n")
            sender = asyncio.create_task(_send_blocks(client.socket, 512))
            await handlers.started.wait()
            await asyncio.sleep(0.05)
            assert not sender.done()
            handlers.finish.set()
            assert (await client.answer())[2] == b"33554432"
            await sender

    run(talk)


async def _send_blocks(ours: socket.socket, count: int) -> None:
    for _ in range(count):
        await asyncio.get_running_loop().sock_sendall(ours, b"x" * 65536)


def test_a_slow_client_holds_the_stream_back_and_its_end_cancels_it() -> None:
    async def talk() -> None:
        handlers = Handlers()
        async with connect(handlers.application) as client:
            await client.send(b"GET /flood HTTP/1.1\r\n\r\n")
            await client.read_until(b"\r\n\r\n")
            before = -1
            while before != handlers.written:
                before = handlers.written
                await asyncio.sleep(0.02)
            assert handlers.written < 100
            client.close()
            async with asyncio.timeout(DEADLINE_S):
                await handlers.cancelled.wait()

    run(talk)


def test_a_stream_without_data_sends_its_head_at_once_and_ends_with_the_client() -> None:
    async def talk() -> None:
        handlers = Handlers()
        async with connect(handlers.application) as client:
            await client.send(b"GET /endless HTTP/1.1\r\n\r\n")
            assert b"chunked" in await client.read_until(b"\r\n\r\n")
            client.close()
            async with asyncio.timeout(DEADLINE_S):
                await handlers.cancelled.wait()

    run(talk)


def test_other_requests_run_to_their_end_without_the_client() -> None:
    async def talk() -> None:
        handlers = Handlers()
        async with connect(handlers.application) as client:
            await client.send(b"POST /hold HTTP/1.1\r\n\r\n")
            await handlers.started.wait()
            client.close()
            await asyncio.sleep(0.01)
            handlers.finish.set()
            async with asyncio.timeout(DEADLINE_S):
                while not handlers.received:  # noqa: ASYNC110 - the handler is not to be changed
                    await asyncio.sleep(0)

    run(talk)


def test_a_stream_that_breaks_is_cut_not_completed(caplog: pytest.LogCaptureFixture) -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(b"GET /broken HTTP/1.1\r\n\r\n")
            try:
                answer = await client.read_to_end()
            except ConnectionResetError:
                answer = b""
            assert not answer.endswith(b"0\r\n\r\n")

    run(talk)
    assert "broken off" in caplog.text


@pytest.mark.parametrize("upgrade", [True, False])
def test_hijack_gives_the_socket_and_the_early_bytes_away(upgrade: bool) -> None:
    async def talk() -> None:
        handlers = Handlers()
        handlers.hijacked = asyncio.get_running_loop().create_future()
        async with connect(handlers.application) as client:
            fields = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
            await client.send(
                b"POST /v1.51/attach HTTP/1.1\r\nContent-Length: 2\r\n" + fields + b"\r\n{}EARLY"
            )
            head = await client.read_until(b"\r\n\r\n")
            stream = await handlers.hijacked
            if upgrade:
                assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
                assert b"Content-Type: application/vnd.docker.multiplexed-stream\r\n" in head
            else:
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"Content-Type: application/vnd.docker.raw-stream\r\n" in head
            assert b"Server: Wherry/test (linux)\r\n" in head
            assert stream.early == b"EARLY"
            assert not handlers.application.connections
            shim = socket.socket(fileno=stream.fd)
            try:
                assert not os.get_inheritable(stream.fd)
                shim.setblocking(False)
                await client.send(b"later")
                assert await asyncio.get_running_loop().sock_recv(shim, 99) == b"later"
                client.half_close()
                assert await asyncio.get_running_loop().sock_recv(shim, 99) == b""
                await asyncio.get_running_loop().sock_sendall(shim, b"tail")
            finally:
                shim.close()
            assert await client.read_to_end() == b"tail"

    run(talk)


def test_hijack_with_a_body_in_chunks() -> None:
    async def talk() -> None:
        handlers = Handlers()
        handlers.hijacked = asyncio.get_running_loop().create_future()
        async with connect(handlers.application) as client:
            await client.send(
                b"POST /attach HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade\r\n"
                b"Upgrade: tcp\r\n\r\n2\r\n{}\r\n0\r\n\r\nEARLY"
            )
            stream = await handlers.hijacked
            assert stream.early == b"EARLY"
            stream.close()
            await client.read_to_end()

    run(talk)


def test_a_client_that_is_gone_before_the_hijack_leaves_nothing() -> None:
    async def talk() -> None:
        handlers = Handlers()
        handlers.hijacked = asyncio.get_running_loop().create_future()
        async with connect(handlers.application) as client:
            await client.send(b"POST /attach HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
            client.close()
        assert not handlers.hijacked.done()

    run(talk)


def test_shutdown_waits_for_answers_and_ends_streams() -> None:
    async def talk() -> None:
        handlers = Handlers()
        application: Application = handlers.application
        async with (
            connect(application) as idle,
            connect(application) as busy,
            connect(application) as endless,
        ):
            await busy.send(b"POST /hold HTTP/1.1\r\n\r\n")
            await endless.send(b"GET /endless HTTP/1.1\r\n\r\n")
            await endless.read_until(b"\r\n\r\n")
            await handlers.started.wait()
            asyncio.get_running_loop().call_later(0.05, handlers.finish.set)
            await application.shutdown(DEADLINE_S)
            assert handlers.cancelled.is_set()
            assert await idle.read_to_end() == b""
            assert (await busy.read_to_end()).startswith(b"HTTP/1.1 204")

    run(talk)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.binary(max_size=2000), st.booleans()), min_size=1, max_size=6),
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
)
def test_pipelined_requests_are_answered_however_they_arrive(
    bodies: list[tuple[bytes, bool]], steps: list[int]
) -> None:
    stream = b""
    for body, chunked in bodies:
        stream += b"POST /v1.51/echo HTTP/1.1\r\nHost: d\r\n"
        if chunked:
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            stream += b"Transfer-Encoding: chunked\r\n\r\n" + framed
        else:
            stream += b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def talk() -> None:
        async with connect(Handlers().application) as client:
            position = 0
            turn = 0
            while position < len(stream):
                step = steps[turn % len(steps)]
                await client.send(stream[position : position + step])
                await asyncio.sleep(0)
                position += step
                turn += 1
            for body, _ in bodies:
                assert (await client.answer())[2] == body

    run(talk)


HOSTILE = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "bad request line": b"GARBAGE\r\n\r\n",
    "no version": b"GET /_ping\r\n\r\n",
    "space in header name": b"GET /_ping HTTP/1.1\r\nBad Name: x\r\n\r\n",
    "NUL in header": b"GET /_ping HTTP/1.1\r\nX: a\x00b\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "huge headers": b"GET /_ping HTTP/1.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_head_is_refused_with_an_answer(name: str) -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            sender = asyncio.create_task(client.send(HOSTILE[name]))
            status, headers, _ = await client.answer()
            assert 400 <= status <= 505
            assert headers["connection"] == "close"
            client.half_close()
            await asyncio.wait([sender])
            assert await client.read_to_end() == b""

    run(talk)


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"-1\r\n", b"5\r\nhelloXX", b"\r\n", b"1" * 20 + b"\r\n", b"0x5\r\nhello\r\n"],
)
def test_hostile_chunks_end_the_connection(body: bytes) -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            try:
                assert await client.read_to_end() == b""
            except ConnectionResetError:
                pass

    run(talk)


class WatchedBudget(BodyBudget):
    """Tells when 2 MiB are taken."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.taken = 0
        self.is_low = asyncio.Event()

    def take(self, size: int) -> None:
        super().take(size)
        self.taken += size
        if self.taken >= 2 << 20:
            self.is_low.set()


def test_large_bodies_that_do_not_end_are_bounded_together() -> None:
    async def scene() -> None:
        application = Handlers().application
        application.body_budget = budget = WatchedBudget(3 << 20)
        head = b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 9000000\r\n\r\n"
        async with connect(application) as first, connect(application) as second:
            await first.send(head + b"x" * (3 << 20))
            async with asyncio.timeout(DEADLINE_S):
                await budget.is_low.wait()
            await second.send(head + b"x" * (3 << 20))
            status, _, body = await second.answer()
            assert status == 503
            assert b"too many large requests at once" in body
            first.close()
        async with connect(application) as later:
            await later.send(head + b"x" * (2 << 20))
            later.half_close()
        async with connect(application) as last:
            assert (await last.request("POST", "/echo", b"z" * (3 << 20)))[0] == 200

    run(scene)


def test_what_is_read_ahead_leaves_the_rest() -> None:
    async def scene() -> None:
        body = Body(budget=BodyBudget(2 << 20))
        for piece in (b"abc", b"def", b"gh"):
            body.feed(piece)
        body.finish()
        assert await body.read_ahead(4) == b"abcd"
        assert await body.read_ahead(1) == b"e"
        assert [piece async for piece in body] == [b"f", b"gh"]
        assert await body.read_ahead(9) == b""
        large = Body(budget=BodyBudget(1 << 20))
        large.feed(bytes(3 << 20))
        with pytest.raises(Unavailable, match="too many large requests at once"):
            await large.read_ahead(3 << 20)

    run(scene)


def test_a_body_in_very_small_pieces_costs_its_size() -> None:
    async def scene() -> None:
        body = Body()
        reading = asyncio.create_task(body.read())
        for _ in range(200):
            for _ in range(1000):
                body.feed(bytes(bytearray(2)))  # an object of its own
            await asyncio.sleep(0)
        body.finish()
        assert await reading == bytes(400_000)

    tracemalloc.start()
    try:
        run(scene)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_body_cut_off_by_the_client_is_not_passed_as_whole() -> None:
    async def talk() -> None:
        async with connect(Handlers().application) as client:
            await client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
            client.half_close()
            try:
                assert await client.read_to_end() == b""
            except ConnectionResetError:
                pass

    run(talk)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_head(data + b"\r\n\r\n")


@settings(max_examples=200)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.binary(max_size=20),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
def test_chunks_are_cut_alike_however_they_arrive(
    pieces: list[bytes], rest: bytes, steps: list[int]
) -> None:
    head = parse_head(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    stream = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    stream += b"0\r\nTrailer: x\r\n\r\n" + rest
    reader, buffer, got = BodyReader(head), bytearray(), []
    position = 0
    while position < len(stream):
        step = steps[position % len(steps)]
        buffer += stream[position : position + step]
        position += step
        while buffer and not reader.done:
            size = len(buffer)
            reader.read(buffer, lambda piece: not got.append(piece))  # type: ignore[func-returns-value]
            if len(buffer) == size:
                break
    assert reader.done
    assert b"".join(got) == b"".join(pieces)
    assert bytes(buffer) == rest
