"""The resolver of containers on networks that users made: 127.0.0.11, as Docker has it.

Each such container has sockets in its own network namespace (`runtime.resolver`); the shim made them and keeps
them, the engine serves copies. So a question says by its socket who asks, and sees the names of
the asker's networks only. What is no container's name is asked of the container's `--dns` servers or of this machine's,
from this machine's namespace, unless all its networks are internal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from wherry.engine.containers.host_files import FALLBACK_NAMESERVERS, read_resolver
from wherry.engine.tasks import Tasks
from wherry.model.container import Container
from wherry.network import dns

logger = logging.getLogger(__name__)

_UPSTREAM_PATIENCE_S = 3.0
_IDLE_S = 10.0
_AT_ONCE = 128  # questions of one container; more are dropped, as a busy server would
_PORT = 53


class Names(Protocol):
    """What networks know of names."""

    def find_addresses(self, container_id: str, name: str) -> tuple[str, ...] | None:
        """What `name` means to that container; None when it is nobody's name."""

    def find_name(self, container_id: str, address: str) -> str:
        """`container.network` of an address on one of its networks, or ""."""

    def may_leave(self, container_id: str) -> bool:
        """Whether one of its networks leads outside."""


class Resolvers:
    """One server for each container that has sockets."""

    def __init__(self, names: Names, nameservers: Sequence[str] = ()) -> None:
        """`nameservers` are asked for containers that have none of their own; without any, the machine's."""
        self._names = names
        self._nameservers = tuple(nameservers)
        self._servers: dict[str, _Server] = {}
        self._tasks = Tasks("resolvers")

    def serve(self, container: Container, sockets: Sequence[int]) -> None:
        """Answers on these descriptors, which are given up. Without any, does nothing."""
        if len(sockets) != 2:
            return
        self.stop(container.id)
        upstreams = container.host_config.dns or self._nameservers
        server = _Server(self._names, container.id, upstreams, sockets, self._tasks)
        self._servers[container.id] = server
        self._tasks.spawn(server.start(), f"serve {container.id}")

    def is_serving(self, container_id: str) -> bool:
        """Whether that container has a resolver."""
        return container_id in self._servers

    def stop(self, container_id: str) -> None:
        """Before the container's addresses are freed; idempotent."""
        server = self._servers.pop(container_id, None)
        if server is not None:
            server.close()

    async def close(self) -> None:
        """Questions then wait for the next engine."""
        for container_id in list(self._servers):
            self.stop(container_id)
        await self._tasks.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        pass  # an asker that has gone


_Ask = Callable[[str, dns.Question, bytes], Awaitable[bytes]]


class _Server:
    """One container's resolver."""

    def __init__(
        self,
        names: Names,
        container_id: str,
        upstreams: Sequence[str],
        sockets: Sequence[int],
        tasks: Tasks,
    ) -> None:
        self._names = names
        self._container_id = container_id
        self._upstreams = upstreams
        self._datagrams, self._streams = (socket.socket(fileno=fd) for fd in sockets)
        self._tasks = tasks
        self._at_work = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._listener: asyncio.Server | None = None
        self._started = False
        self._closed = False

    async def start(self) -> None:
        """A socket is closed by who has it: this object until here, from here the loop.

        Behind the loop's back its number would go to another connection, which the loop then never hears.
        """
        self._started = not self._closed
        if not self._started:
            return
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self._take_datagram), sock=self._datagrams
            )
            self._transport = transport
        except BaseException:
            self._streams.close()
            raise
        self._listener = await asyncio.start_server(self._serve_stream, sock=self._streams)
        if self._closed:
            self._close_served()

    def close(self) -> None:
        self._closed = True
        if self._started:
            self._close_served()
        else:
            self._datagrams.close()
            self._streams.close()

    def _close_served(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._listener is not None:
            self._listener.close()

    def _take_datagram(self, message: bytes, asker: tuple[str, int]) -> None:
        if self._at_work >= _AT_ONCE or self._closed:
            return
        self._tasks.spawn(self._answer_datagram(message, asker), "question")

    async def _answer_datagram(self, message: bytes, asker: tuple[str, int]) -> None:
        answer = await self._answer(message, ask_datagram, dns.DATAGRAM_BYTES)
        if answer and self._transport is not None and not self._closed:
            self._transport.sendto(answer, asker)

    async def _serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            while self._at_work < _AT_ONCE and not self._closed:
                async with asyncio.timeout(_IDLE_S):
                    message = await _read_framed(reader)
                answer = await self._answer(message, ask_stream, 0)
                if not answer:
                    break
                writer.write(_frame(answer))
                await writer.drain()
        writer.close()

    async def _answer(self, message: bytes, ask: _Ask, limit: int) -> bytes:
        """Empty for what is no question."""
        try:
            question = dns.parse_question(message)
        except dns.MessageError:
            return b""
        values = self._look_up(question)
        if values is not None:
            return dns.build_answer(question, values, limit=limit)
        self._at_work += 1
        try:
            return await self._ask_outside(question, message, ask)
        finally:
            self._at_work -= 1

    def _look_up(self, question: dns.Question) -> Sequence[bytes] | None:
        """The answer's values; none for a name of ours that has no such record; None when others know."""
        if question.kind == dns.PTR:
            name = self._names.find_name(self._container_id, dns.parse_reverse(question.name))
            return [dns.encode_name(name)] if name else None
        addresses = self._names.find_addresses(self._container_id, question.name)
        if addresses is None:
            return None
        if question.kind != dns.A:
            return []
        # Whoever takes the first one spreads over all.
        return random.sample([socket.inet_aton(address) for address in addresses], len(addresses))

    async def _ask_outside(self, question: dns.Question, message: bytes, ask: _Ask) -> bytes:
        if not self._names.may_leave(self._container_id):
            return dns.build_refusal(question, dns.SERVER_FAILURE)
        upstreams = self._upstreams or read_resolver().nameservers or FALLBACK_NAMESERVERS
        failure = b""
        for upstream in upstreams:
            try:
                async with asyncio.timeout(_UPSTREAM_PATIENCE_S):
                    answer = await ask(upstream, question, message)
            except (OSError, EOFError, TimeoutError) as exc:
                logger.debug("ask %s for %s: %s", upstream, question.name, exc)
                continue
            if not dns.is_failure(answer):
                return answer
            failure = answer
        return failure or dns.build_refusal(question, dns.SERVER_FAILURE)


async def ask_datagram(server: str, question: dns.Question, message: bytes) -> bytes:
    """Asks another server over UDP, from a port of its own. Raises OSError."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()

    def take(data: bytes, _: tuple[str, int]) -> None:
        if not answered.done() and dns.is_answer_to(question, data):
            answered.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Question(take, answered), remote_addr=(server, _PORT)
    )
    try:
        transport.sendto(message)
        return await answered
    finally:
        transport.close()


class _Question(_Datagrams):
    def __init__(
        self, take: Callable[[bytes, tuple[str, int]], None], answered: asyncio.Future[bytes]
    ) -> None:
        super().__init__(take)
        self._answered = answered

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)


async def ask_stream(server: str, question: dns.Question, message: bytes) -> bytes:
    """Asks another server over TCP. Raises OSError, EOFError."""
    reader, writer = await asyncio.open_connection(server, _PORT)
    try:
        writer.write(_frame(message))
        answer = await _read_framed(reader)
    finally:
        writer.close()
    if not dns.is_answer_to(question, answer):
        raise EOFError("another question's answer")
    return answer


async def _read_framed(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">H", await reader.readexactly(2))
    return await reader.readexactly(length)


def _frame(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message
