"""The connection between engine, spawner and shim: whole messages with descriptors over SOCK_SEQPACKET.

Knows nothing of what the messages mean. A message is a JSON object; it travels as one datagram, or as a
sealed memfd when it is long (a datagram over about 212 KB fails with EMSGSIZE), after as many datagrams
of descriptors as it needs (more than 253 in one fail). Each datagram starts with a byte that names its
kind. The first message on a connection carries the protocol's version, both ways. Nothing here blocks:
what the peer does not take yet waits in a queue.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import marshal
import os
import socket
from collections import deque

from wherry.lib.jsonvalue import JsonObject

PROTOCOL_VERSION = 1

_INLINE_LIMIT = 48 << 10
_DATAGRAM_LIMIT = _INLINE_LIMIT + 1
_DESCRIPTOR_LIMIT = 240  # SCM_MAX_FD is 253
_MESSAGE_LIMIT = 64 << 20
_DESCRIPTORS_TOTAL_LIMIT = 4096
_KIND_INLINE = b"J"
_KIND_MEMFD = b"M"
_KIND_DESCRIPTORS = b"F"
_F_ADD_SEALS = 1033
_F_GET_SEALS = 1034
_ALL_SEALS = 0xF  # seal, shrink, grow, write
_RIGHTS_SPACE = socket.CMSG_SPACE(4 * 253)
MSG_CMSG_CLOEXEC = 0x40000000
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED, errno.EBADF)


class ProtocolError(Exception):
    """The peer sent what no version of ours sends, or speaks another version."""


class Message:
    """One received message; who takes `fds` closes them."""

    __slots__ = ("body", "fds")

    def __init__(self, body: JsonObject, fds: list[int]) -> None:
        self.body = body
        self.fds = fds

    def close(self) -> None:
        """Closes the descriptors that nobody took."""
        close_all(self.fds)
        self.fds = []


class Channel:
    """One end of a connection. Owns the socket, and the descriptors given to `send`."""

    __slots__ = ("_fds", "_greeted", "_is_private", "_queue", "_socket", "_welcomed", "closed")

    def __init__(
        self, connection: socket.socket, *, is_inherited: bool = False, is_private: bool = False
    ) -> None:
        """`is_inherited`: another process has sent and read the first messages.

        `is_private`: between a process and its fork, in marshal's form, which touches least memory.
        """
        connection.settimeout(0)
        self._socket = connection
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._fds: list[int] = []
        self._greeted = is_inherited or is_private
        self._is_private = is_private
        self._welcomed = is_inherited or is_private
        self.closed = False

    def fileno(self) -> int:
        """The socket's descriptor, to wait on."""
        return self._socket.fileno()

    @property
    def blocked(self) -> bool:
        """Whether something waits until the socket is writable; then call `flush`."""
        return bool(self._queue)

    def send(self, body: dict[str, object], fds: list[int] | None = None) -> None:
        """Queues a message and sends what the socket takes now. To a peer that is gone: does nothing."""
        if not self._greeted:
            self._greeted = True
            body = {"version": PROTOCOL_VERSION, **body}
        if self._is_private:
            payload = marshal.dumps(body)
        else:
            payload = json.dumps(body, separators=(",", ":")).encode()
        owned = list(fds or ())
        if self.closed:
            close_all(owned)
            return
        kind = _KIND_INLINE
        if len(payload) > _INLINE_LIMIT:
            owned.append(_seal(payload))
            kind, payload = _KIND_MEMFD, b""
        while len(owned) > _DESCRIPTOR_LIMIT:
            self._queue.append((_KIND_DESCRIPTORS, owned[:_DESCRIPTOR_LIMIT]))
            owned = owned[_DESCRIPTOR_LIMIT:]
        self._queue.append((kind + payload, owned))
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it."""
        while self._queue:
            datagram, fds = self._queue[0]
            try:
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    self._socket.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)
                else:
                    self._socket.send(datagram, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                self._drop_queue()
                return
            self._queue.popleft()
            close_all(fds)

    def receive(self) -> Message | None:
        """The next message, or None when there is none yet or the peer is gone (then `closed` is set).

        Raises ProtocolError; the connection is of no use after that.
        """
        while not self.closed:
            try:
                datagram, ancillary, flags, _ = self._socket.recvmsg(
                    _DATAGRAM_LIMIT, _RIGHTS_SPACE, MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return None
            except ConnectionResetError:
                # The peer ended with messages of ours unread; what it sent before can still be read.
                continue
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array("i")
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                    self._fds.extend(fds)
            if not datagram:
                self.closed = True
                self._drop_fds()
                return None
            if (
                flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
                or len(self._fds) > _DESCRIPTORS_TOTAL_LIMIT
            ):
                self._drop_fds()
                raise ProtocolError("message is too long")
            if datagram[:1] != _KIND_DESCRIPTORS:
                return self._decode(datagram)
        return None

    def is_peer_gone(self) -> bool:
        """Whether the peer has ended and nothing of it is left to read."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def shutdown(self) -> None:
        """Lets the peer read the end, whoever shares this end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the connection; what waits is dropped. Idempotent."""
        self.closed = True
        self._drop_queue()
        self._drop_fds()
        self._socket.close()

    def _decode(self, datagram: bytes) -> Message:
        fds, self._fds = self._fds, []
        message = Message({}, fds)
        try:
            kind, payload = datagram[:1], datagram[1:]
            if kind == _KIND_MEMFD and fds:
                payload = _unseal(fds.pop())
            elif kind != _KIND_INLINE:
                raise ProtocolError(f"message of unknown kind {kind!r}")
            body = (
                marshal.loads(payload)  # noqa: S302 # the peer is this very program, forked
                if self._is_private
                else json.loads(payload)
            )
            if not isinstance(body, dict):
                raise ProtocolError("message is not an object")
            if not self._welcomed:
                if body.get("version") != PROTOCOL_VERSION:
                    raise ProtocolError(f"peer speaks protocol version {body.get('version')!r}")
                self._welcomed = True
        except (ValueError, EOFError, TypeError) as error:
            message.close()
            raise ProtocolError(f"message cannot be decoded: {error}") from error
        except ProtocolError:
            message.close()
            raise
        message.body = body
        return message

    def _drop_queue(self) -> None:
        while self._queue:
            close_all(self._queue.popleft()[1])

    def _drop_fds(self) -> None:
        close_all(self._fds)
        self._fds = []


def receive_blocking(connection: socket.socket) -> Message | None:
    """The next message of a private channel's peer, or None at the end; by the shortest way through memory."""
    fds: list[int] = []
    while True:
        datagram, ancillary, _, _ = connection.recvmsg(
            _DATAGRAM_LIMIT, _RIGHTS_SPACE, MSG_CMSG_CLOEXEC
        )
        for _, _, data in ancillary:
            fds += array.array("i", data)
        if not datagram:
            return None
        payload = datagram[1:]
        if datagram[:1] == _KIND_MEMFD:
            payload = _unseal(fds.pop())
        if datagram[:1] != _KIND_DESCRIPTORS:
            return Message(marshal.loads(payload), fds)  # noqa: S302 # of this very program, forked


FORK = b"F"
FORK_BRIEF = b"B"


def send_fork(control: socket.socket, shim_fd: int, kind: bytes) -> bool:
    """Asks the spawner for a shim of that kind; False when it is gone. `shim_fd` is given up."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [shim_fd]))]
    try:
        control.sendmsg([kind], rights, socket.MSG_NOSIGNAL)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return False
    finally:
        os.close(shim_fd)
    return True


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected SEQPACKET sockets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def listen_at(folder_fd: int, name: str) -> socket.socket:
    """A listening socket at `name` in the folder, however long its path is (sun_path holds 108 bytes)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(f"/proc/self/fd/{folder_fd}/{name}")
        listener.listen(8)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def connect_at(folder_fd: int, name: str) -> socket.socket:
    """A connection to the socket at `name` in the folder. Raises OSError as connect(2) does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(0)
        connection.connect(f"/proc/self/fd/{folder_fd}/{name}")
    except BaseException:
        connection.close()
        raise
    return connection


def close_all(fds: list[int]) -> None:
    """Closes each descriptor once."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue


def _seal(payload: bytes) -> int:
    fd = os.memfd_create("wherry-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(payload)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unseal(fd: int) -> bytes:
    try:
        if fcntl.fcntl(fd, _F_GET_SEALS) & _ALL_SEALS != _ALL_SEALS:
            raise ProtocolError("message is in a memfd that is not sealed")
        size = os.fstat(fd).st_size
        if size > _MESSAGE_LIMIT:
            raise ProtocolError("message is too long")
        chunks: list[bytes] = []
        offset = 0
        while offset < size:
            chunk = os.pread(fd, size - offset, offset)
            if not chunk:
                break
            chunks.append(chunk)
            offset += len(chunk)
        return b"".join(chunks)
    except OSError as error:
        raise ProtocolError(f"message's memfd cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
