"""What a waiting init is told: orders with descriptors, from the process that made it ahead.

A SEQPACKET socket pair between a process and its own fork, so the form is marshal's, which touches least
memory; an order that is too long for a datagram (about 212 KB) travels as a memfd behind the others.
"""

from __future__ import annotations

import _socket
import array
import marshal
import os

from wherry.lib.jsonvalue import JsonObject, get_int, get_strings
from wherry.runtime.context import Context

READY = b"\1ready"  # on the report pipe: everything is done but what waits for an order
MAX_DESCRIPTORS = 240  # SCM_MAX_FD is 253
_INLINE_LIMIT = 100 << 10
_RIGHTS_SPACE = _socket.CMSG_SPACE(4 * 253)
_MSG_CMSG_CLOEXEC = 0x40000000
_INLINE = b"I"
_MEMFD = b"M"


def send_order(connection: _socket.socket, body: dict[str, object], fds: list[int]) -> None:
    """Sends one order; the descriptors stay the caller's. Raises OSError."""
    payload = marshal.dumps(body)
    memfd = -1
    kind = _INLINE
    try:
        if len(payload) > _INLINE_LIMIT:
            memfd = os.memfd_create("wherry-order", os.MFD_CLOEXEC)
            view = memoryview(payload)
            while view:
                view = view[os.write(memfd, view) :]
            kind, payload = _MEMFD, b""
            fds = [*fds, memfd]
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        connection.sendmsg([kind, payload], rights, _socket.MSG_NOSIGNAL)
    finally:
        if memfd >= 0:
            os.close(memfd)


def receive_order(connection: _socket.socket) -> tuple[JsonObject, list[int]] | None:
    """The next order, or None when the other end is gone. Blocking. The descriptors become the caller's."""
    datagram, ancillary, _, _ = connection.recvmsg(
        _INLINE_LIMIT + 1, _RIGHTS_SPACE, _MSG_CMSG_CLOEXEC
    )
    if not datagram:
        return None
    fds = array.array("i")
    for _, _, data in ancillary:
        fds.frombytes(data)
    payload = datagram[1:]
    if datagram[:1] == _MEMFD:
        memfd = fds.pop()
        try:
            payload = os.pread(memfd, os.fstat(memfd).st_size, 0)
        finally:
            os.close(memfd)
    return marshal.loads(payload), fds.tolist()  # noqa: S302 # of this very program, forked


def pack_descriptors(context: Context) -> tuple[dict[str, object], list[int]]:
    """What init needs of a launching process's context, as an order."""
    fds = [context.root, context.report, *(context.stdio or ()), *context.sources.values()]
    return {"stdio": len(context.stdio or ()), "sources": tuple(context.sources)}, fds


def take_descriptors(context: Context, order: JsonObject, fds: list[int]) -> None:
    """The inverse, in init."""
    context.root, context.report = fds[0], fds[1]
    first = 2 + get_int(order, "stdio")
    if first > 2:
        context.stdio = (fds[2], fds[3], fds[4])
    context.sources = dict(zip(get_strings(order, "sources"), fds[first:], strict=True))
