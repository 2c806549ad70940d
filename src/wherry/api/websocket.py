"""WebSocket (RFC 6455) for `attach/ws`: the handshake, and a relay between frames and a plain stream.

The engine gets one end of a socket pair, as on TLS; what it sends leaves in binary frames, without the 8-byte
headers of multiplexed streams (dockerd never multiplexes here), and the payload of the client's frames reaches it
as bytes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct

from wherry.api.message import Request
from wherry.engine.streams import ClientStream, Hijack
from wherry.model.errors import InvalidArgument

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_PAYLOAD_LIMIT = 1 << 20
_PIECE = 64 << 10


class FrameError(Exception):
    """The client broke the protocol."""


class FrameReader:
    """Cuts a client's frames out of a stream. Sans-IO."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Adds bytes; returns the (opcode, payload) of each frame that is complete. Raises FrameError."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, masked, size = buffer[0] & 0x0F, buffer[1] & 0x80, buffer[1] & 0x7F
        start = 2
        if size == 126:
            if len(buffer) < 4:
                return None
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        if not masked:
            raise FrameError("client frames must be masked")
        if size > _PAYLOAD_LIMIT:
            raise FrameError("frame too large")
        if len(buffer) < start + 4 + size:
            return None
        mask = bytes(buffer[start : start + 4])
        payload = bytes(buffer[start + 4 : start + 4 + size])
        del buffer[: start + 4 + size]
        return opcode, unmask(payload, mask)


class Demultiplexer:
    """Takes the 8-byte headers out of a multiplexed stream. Sans-IO."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """The payload in these bytes."""
        pieces = []
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                pieces.append(piece)
            else:
                piece = data[position : position + 8 - len(self._header)]
                self._header += piece
                if len(self._header) == 8:
                    self._left = int.from_bytes(self._header[4:], "big")
                    self._header = b""
            position += len(piece)
        return b"".join(pieces)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one big number: a loop over bytes would be slow."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def build_frame(opcode: int, payload: bytes) -> bytes:
    """A frame of the server: final, not masked."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + payload


def build_accept(key: str) -> str:
    """Sec-WebSocket-Accept."""
    digest = hashlib.sha1(key.encode() + _GUID.encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def accept_websocket(request: Request, common_head: bytes) -> Hijack:
    """A hijack that speaks WebSocket to the client. Raises InvalidArgument at once without a handshake."""
    key = request.header("sec-websocket-key")
    if request.header("upgrade").lower() != "websocket" or not key:
        raise InvalidArgument("a websocket handshake is needed")

    async def hijack(multiplexed: bool) -> ClientStream:  # noqa: FBT001 - the engine's signature
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {build_accept(key)}\r\n"
        )
        client = await request.take_over(head.encode() + common_head + b"\r\n")
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        outer = socket.socket(fileno=client.fd)
        outer.settimeout(0)
        task = asyncio.create_task(_relay(outer, client.early, ours, multiplexed=multiplexed))
        _RELAYS.add(task)
        task.add_done_callback(_RELAYS.discard)
        return ClientStream(theirs.detach())

    return hijack


_RELAYS: set[asyncio.Task[None]] = set()


async def _relay(
    outer: socket.socket, early: bytes, inner: socket.socket, *, multiplexed: bool
) -> None:
    inward = asyncio.create_task(_read_frames(outer, early, inner))
    try:
        # The container's side decides about the end.
        await _write_frames(inner, outer, Demultiplexer() if multiplexed else None)
    finally:
        inward.cancel()
        await asyncio.wait([inward])
        outer.close()
        inner.close()


async def _read_frames(outer: socket.socket, early: bytes, inner: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    reader = FrameReader()
    data = early
    with contextlib.suppress(OSError, FrameError):
        while True:
            for opcode, payload in reader.feed(data):
                if opcode == _CLOSE:
                    return inner.shutdown(socket.SHUT_WR)
                if opcode == _PING:
                    await loop.sock_sendall(outer, build_frame(_PONG, payload))
                elif opcode != _PONG:
                    await loop.sock_sendall(inner, payload)
            data = await loop.sock_recv(outer, _PIECE)
            if not data:
                break
    with contextlib.suppress(OSError):
        inner.shutdown(socket.SHUT_WR)
    return None


async def _write_frames(
    inner: socket.socket, outer: socket.socket, demultiplexer: Demultiplexer | None
) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(inner, _PIECE):
            payload = data if demultiplexer is None else demultiplexer.feed(data)
            if payload:
                await loop.sock_sendall(outer, build_frame(_BINARY, payload))
        await loop.sock_sendall(outer, build_frame(_CLOSE, b"\x03\xe8"))
