"""Attaching clients: to a live container through its shim, or kept until the start (`docker run` attaches first).

The engine never reads the connection: it is handed over as a descriptor, with what was read of it
already. A kept client that goes away is noticed and dropped.
"""

from __future__ import annotations

import os
import socket

from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.logs import Logs
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.requests import AttachOptions, LogOptions
from wherry.engine.events import Events
from wherry.engine.shims import Attachment, ShimGone
from wherry.engine.streams import ClientStream, HangupWatch, Hijack
from wherry.lib.detach import InvalidDetachKeys, parse_detach_keys
from wherry.model.container import Status
from wherry.model.errors import Conflict, InvalidArgument


class WaitingClient:
    """A client that waits for the start."""

    __slots__ = ("_attachment", "_handle", "_watch")

    def __init__(self, handle: ContainerHandle, attachment: Attachment, watch: HangupWatch) -> None:
        self._handle = handle
        self._attachment = attachment
        self._watch = watch
        watch.watch(attachment.fd, self._drop)

    def take(self) -> Attachment:
        """Gives the client away."""
        self._watch.forget(self._attachment.fd)
        return self._attachment

    def _drop(self) -> None:
        if self in self._handle.clients:
            self._handle.clients.remove(self)
        os.close(self._attachment.fd)


def take_clients(handle: ContainerHandle) -> list[Attachment]:
    """All clients that wait for the start, given away."""
    clients, handle.clients = handle.clients, []
    return [client.take() for client in clients]


class Attachments:
    """Attaches."""

    def __init__(self, *, events: Events, logs: Logs) -> None:
        self._events = events
        self._logs = logs
        self._watch = HangupWatch()

    def close(self) -> None:
        """Ends the watch over waiting clients."""
        self._watch.close()

    async def attach(self, handle: ContainerHandle, options: AttachOptions, hijack: Hijack) -> None:
        """Raises Conflict and InvalidArgument before the connection is taken over."""
        keys = read_detach_keys(options.detach_keys)
        record = handle.record
        match record.state.status:
            case Status.PAUSED:
                raise Conflict(
                    f"container {record.name} is paused, unpause the container before attach"
                )
            case Status.RESTARTING:
                raise Conflict(
                    f"container {record.name} is restarting, wait until the container is running"
                )
            case _:
                pass
        config = record.config
        stream = await hijack(not config.tty)
        try:
            if options.logs:
                await self._replay(handle, options, stream)
            publish_container(self._events, record, "attach")
            has_stdin = options.stdin and config.open_stdin
            if not options.stream or not (has_stdin or options.stdout or options.stderr):
                return
            attachment = Attachment(
                fd=stream.fd,
                early=stream.early,
                stdin=has_stdin,
                stdout=options.stdout,
                stderr=options.stderr,
                multiplexed=not config.tty,
                detach_keys=keys if config.tty or options.detach_keys else b"",
            )
            await self._join(handle, attachment, stream)
        finally:
            stream.close()

    async def _join(
        self, handle: ContainerHandle, attachment: Attachment, stream: ClientStream
    ) -> None:
        # A start in progress has taken its clients already: what comes now waits for the shim.
        async with handle.lock:
            shim = handle.shim
            if handle.removing:
                return
            stream.fd = -1
            if shim is None:
                handle.clients.append(WaitingClient(handle, attachment, self._watch))
                return
        try:
            await shim.attach(attachment)
        except ShimGone:
            return  # it has just ended, and the shim has closed the connection

    async def _replay(
        self, handle: ContainerHandle, options: AttachOptions, stream: ClientStream
    ) -> None:
        log = await self._logs.logs(
            handle, LogOptions(stdout=options.stdout, stderr=options.stderr)
        )
        with socket.socket(fileno=os.dup(stream.fd)) as connection:
            connection.settimeout(0)
            async for frame in log.frames:
                await self._logs.send(connection, frame)


def read_detach_keys(text: str) -> bytes:
    """Raises InvalidArgument."""
    try:
        return parse_detach_keys(text)
    except InvalidDetachKeys as exc:
        raise InvalidArgument(f"Invalid detach keys ({text}) provided") from exc
