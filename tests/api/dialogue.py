"""Talks to the real server in memory: raw bytes over a socket pair, in one loop with the connection under test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import uvloop

from wherry.api.router import Route, Router
from wherry.api.server import Application, HttpConnection

PRODUCT = "Wherry/test (linux)"
DEADLINE_S = 60.0


def build_application(routes: Iterable[Route]) -> Application:
    """The real application over a route table."""
    return Application(PRODUCT, Router(routes))


class Dialogue:
    """One client connection."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self) -> bytes:
        """Whatever comes next; b"" at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)

    async def read_until(self, mark: bytes) -> bytes:
        """Up to and with `mark`."""
        while mark not in self.buffer:
            async with asyncio.timeout(DEADLINE_S):
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            if not data:
                raise AssertionError(f"end before {mark!r}: {self.buffer!r}")
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(mark)
        return head + mark

    async def read_to_end(self) -> bytes:
        """Everything until the server closes."""
        pieces = []
        while data := await self.receive():
            pieces.append(data)
        return b"".join(pieces)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One answer with its body: status, header fields in lower case, bytes."""
        lines = (await self.read_until(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])
        }
        status = int(lines[0].split()[1])
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await self.read_until(b"\r\n")), 16):
                body += await self._take(size)
                await self._take(2)
            await self._take(2)
        elif "content-length" in headers:
            body = await self._take(int(headers["content-length"]))
        return status, headers, body

    async def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            async with asyncio.timeout(DEADLINE_S):
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            assert data, "the body is cut off"
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    async def request(
        self, method: str, target: str, body: bytes = b"", content_type: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """One request with its answer."""
        head = f"{method} {target} HTTP/1.1\r\nHost: d\r\n"
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        await self.send(head.encode() + b"\r\n" + body)
        if method == "HEAD":
            lines = (await self.read_until(b"\r\n\r\n")).decode().split("\r\n")
            fields = (line.partition(": ") for line in lines[1:-2])
            headers = {name.lower(): value for name, _, value in fields}
            return int(lines[0].split()[1]), headers, b""
        return await self.answer()

    def half_close(self) -> None:
        """The client sends no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """The client goes."""
        self.socket.close()


@contextlib.asynccontextmanager
async def connect(application: Application) -> AsyncIterator[Dialogue]:
    """A client of the application; afterwards the server must have let go of it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(lambda: HttpConnection(application), theirs)
    dialogue = Dialogue(ours)
    try:
        yield dialogue
    finally:
        dialogue.close()
        async with asyncio.timeout(DEADLINE_S):
            while application.connections:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs a test on the loop that wherryd uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())  # type: ignore[arg-type]  # an async function's awaitable is a coroutine
