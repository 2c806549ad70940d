"""A client's connection after the API has given it up, and how a service asks for it.

A service first checks that the request can be met, then calls its `Hijack`: the API writes the
101 or 200 head and returns the bare connection. From there the descriptor belongs to the service,
which hands it to a shim or closes it. Nothing here knows of HTTP.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(slots=True)
class ClientStream:
    """A connected stream socket. `early` was read beyond the request and belongs to stdin."""

    fd: int
    early: bytes = b""

    def close(self) -> None:
        """Closes the descriptor once; idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


Hijack = Callable[[bool], Awaitable[ClientStream]]
"""Takes the connection over; the argument says whether the stream will be multiplexed (8-byte frames)."""


class HangupWatch:
    """Tells when a connection that nobody reads is closed by its peer, both ways.

    epoll reports EPOLLHUP whatever events are asked for; a half-close, which is how a client ends
    its stdin, is not one. One descriptor on the event loop serves all connections.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._take)

    def watch(self, fd: int, on_hangup: Callable[[], None]) -> None:
        """Calls back once when the peer of `fd` is gone."""
        self._epoll.register(fd, 0)
        self._callbacks[fd] = on_hangup

    def forget(self, fd: int) -> None:
        """No more calls for `fd`; before it is closed or given away. Idempotent."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _take(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.forget(fd)
            if callback is not None:
                callback()

    def close(self) -> None:
        """Ends the watch."""
        if not self._epoll.closed:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
