"""What a program says and hears: its outputs to log and clients, clients' input to it. For a container or exec.

Theory of operation. A `Session` has outputs (stdout and stderr, or a pty), perhaps an input, and clients. All
descriptors are non-blocking. One read of an output goes to the log, then to each client that wants it. What
a client does not take waits with the client and pauses the outputs it listens to, never others (pitfall 15): at
most two reads wait per client. What the program does not take waits with the input and pauses the clients
that type.

A client that ends its input (dockerd 28.5, moby container/stream/attach.go):
- closes the program's stdin when that is for one client only (`stdin` "once") and no terminal;
- is let go when stdin stays open or is a terminal;
- stays when the program has no stdin.

After the program's end `drain` reads on until the outputs end, at most 2 s: a child may hold them. The
clients keep their connections until `finish`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from wherry.lib.detach import DetachScanner
from wherry.shim.loop import LOST, READ, WRITE, Loop, Timer

READ_SIZE = 64 << 10
DRAIN_S = 2.0
FLUSH_S = 10.0

_DRAIN_PENDING_LIMIT = 1 << 20
_FRAME = struct.Struct(">BxxxI")
_STREAM_NUMBERS = {"stdout": 1, "stderr": 2}


class Sink:
    """Takes an output's bytes in order, then its end: what the log is to a session."""

    def write(self, data: bytes) -> None:
        """What one read gave."""

    def finish(self) -> None:
        """The output has ended."""


class Client:
    """A connection. Closed through `Session`, which owns its clients."""

    __slots__ = (
        "fd",
        "flush_timer",
        "has_stdin",
        "leaving",
        "multiplexed",
        "pending",
        "scanner",
        "streams",
    )

    def __init__(
        self,
        fd: int,
        *,
        has_stdin: bool,
        streams: tuple[str, ...],
        multiplexed: bool,
        detach_keys: bytes,
    ) -> None:
        self.fd = fd
        self.has_stdin = has_stdin
        self.streams = streams
        self.multiplexed = multiplexed
        self.scanner = DetachScanner(detach_keys)
        self.pending = bytearray()
        self.leaving = False
        self.flush_timer: Timer | None = None
        os.set_blocking(fd, False)

    def send(self, stream: str, data: bytes) -> bool:
        """Sends or keeps the data. False when the connection is lost."""
        if self.multiplexed:
            data = _FRAME.pack(_STREAM_NUMBERS[stream], len(data)) + data
        if self.pending:
            self.pending += data
            return True
        sent = _write(self.fd, data)
        if sent < 0:
            return False
        self.pending += data[sent:]
        return True

    def flush(self) -> bool:
        """Sends what is kept. False when the connection is lost."""
        while self.pending:
            sent = _write(self.fd, self.pending)
            if sent < 0:
                return False
            if sent == 0:
                break
            del self.pending[:sent]
        return True


class _Output:
    __slots__ = ("fd", "sink", "stream")

    def __init__(self, stream: str, fd: int, sink: Sink | None) -> None:
        self.stream = stream
        self.fd = fd
        self.sink = sink


class Session:
    """The streams of one process. Owns all descriptors given to it."""

    def __init__(
        self,
        loop: Loop,
        *,
        terminal: bool,
        stdin_once: bool,
        input_fd: int,
        outputs: tuple[tuple[str, int, Sink | None], ...],
        on_detach: Callable[[], None],
    ) -> None:
        """`input_fd` is -1 for a program without stdin. Outputs: "stdout" or "stderr", descriptor, log."""
        self._loop = loop
        self._terminal = terminal
        self._stdin_once = stdin_once
        self._input_fd = input_fd
        self._input_pending = bytearray()
        self._input_ends = False
        self._clients: list[Client] = []
        self._on_detach = on_detach
        self._draining: Callable[[], None] | None = None
        self._drain_timer: Timer | None = None
        self._on_finished: Callable[[], None] | None = None
        self._finishing = False
        self._outputs = [_Output(*output) for output in outputs]
        if input_fd >= 0:
            os.set_blocking(input_fd, False)
        for output in self._outputs:
            os.set_blocking(output.fd, False)
            self._listen(output)

    def attach(self, client: Client, early: bytes) -> None:
        """Adds a client; `early` is input that was read with its request."""
        self._clients.append(client)
        self._watch(client)
        if self._finishing:
            self._release(client)
        elif early and client.has_stdin:
            self._take_input(client, early)

    def close_stdin(self) -> None:
        """The program's stdin ends after what clients have sent; a terminal's does not."""
        if self._input_fd < 0 or self._terminal:
            return
        self._input_ends = True
        self._push_input()

    def drain(self, on_drained: Callable[[], None]) -> None:
        """The program has ended: reads on until its outputs end, at most for 2 s, then calls back."""
        self._draining = on_drained
        self._drop_input()
        if not self._outputs:
            self._end_drain()
            return
        self._drain_timer = self._loop.call_later(DRAIN_S, self._cut_outputs)
        self._resume_outputs()

    def finish(self, on_finished: Callable[[], None]) -> None:
        """Closes every client after what it has still to get, dropping who takes nothing; then calls back."""
        self._finishing = True
        self._on_finished = on_finished
        for client in self._clients.copy():
            self._release(client)
        self._check_finished()

    def _listen(self, output: _Output) -> None:
        self._loop.watch(output.fd, READ, lambda _: self._read_output(output))

    def _read_output(self, output: _Output) -> None:
        try:
            data = os.read(output.fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            # A pty's master reads EIO when the last process has closed the slave.
            data = b""
        if not data:
            self._end_output(output)
            return
        self._distribute(output, data)
        if self._is_paused(output):
            self._loop.forget(output.fd)

    def _is_paused(self, output: _Output) -> bool:
        limit = 0 if self._draining is None else _DRAIN_PENDING_LIMIT
        return any(
            len(client.pending) > limit
            for client in self._clients
            if output.stream in client.streams and not client.leaving
        )

    def _resume_outputs(self) -> None:
        for output in self._outputs:
            if not self._is_paused(output):
                self._listen(output)

    def _end_output(self, output: _Output) -> None:
        self._loop.forget(output.fd)
        os.close(output.fd)
        self._outputs.remove(output)
        if output.sink is not None:
            output.sink.finish()
        if not self._outputs and self._draining is not None:
            self._end_drain()

    def _cut_outputs(self) -> None:
        """What is in the pipes now is the last: whoever holds them writes to nobody from here."""
        for output in self._outputs.copy():
            budget = _DRAIN_PENDING_LIMIT
            while budget > 0:
                try:
                    data = os.read(output.fd, READ_SIZE)
                except OSError:
                    break
                if not data:
                    break
                budget -= len(data)
                self._distribute(output, data)
            self._end_output(output)

    def _distribute(self, output: _Output, data: bytes) -> None:
        if output.sink is not None:
            output.sink.write(data)
        for client in self._clients.copy():
            if output.stream not in client.streams or client.leaving:
                continue
            if not client.send(output.stream, data):
                self._lose(client)
            elif client.pending:
                self._watch(client)

    def _end_drain(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        on_drained, self._draining = self._draining, None
        if on_drained is not None:
            on_drained()

    def _watch(self, client: Client) -> None:
        mask = 0
        if client.has_stdin and not self._input_pending and not client.leaving:
            mask |= READ
        if client.pending:
            mask |= WRITE
        self._loop.watch(client.fd, mask, lambda events: self._serve(client, events))

    def _serve(self, client: Client, events: int) -> None:
        if events & WRITE and not self._flush(client):
            return
        if events & READ and client.has_stdin:
            self._read_input(client)
        elif events & LOST:
            self._lose(client)

    def _flush(self, client: Client) -> bool:
        before = len(client.pending)
        if not client.flush():
            self._lose(client)
            return False
        if client.leaving and len(client.pending) < before:
            self._release(client)
            return False
        if not client.pending:
            self._watch(client)
        self._resume_outputs()
        return True

    def _read_input(self, client: Client) -> None:
        if self._input_pending or client.leaving:
            return
        try:
            data = os.read(client.fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if data:
            self._take_input(client, data)
        else:
            self._end_input(client)

    def _take_input(self, client: Client, data: bytes) -> None:
        detached = False
        if self._terminal:
            data, detached = client.scanner.feed(data)
        if self._input_fd >= 0 and not self._input_ends:
            self._input_pending += data
            self._push_input()
        if detached:
            self._on_detach()
            self._release(client)

    def _end_input(self, client: Client) -> None:
        client.has_stdin = False
        if self._input_fd >= 0 and (self._terminal or not self._stdin_once):
            self._release(client)
            return
        self._watch(client)
        self.close_stdin()

    def _push_input(self) -> None:
        """Gives the program what it takes; the rest pauses the clients that type."""
        was_pending = bool(self._input_pending)
        while self._input_pending:
            sent = _write(self._input_fd, self._input_pending)
            if sent < 0:
                # The program has closed its stdin: what is typed from here goes nowhere.
                self._drop_input()
                break
            if sent == 0:
                self._loop.watch(self._input_fd, WRITE, lambda _: self._push_input())
                break
            del self._input_pending[:sent]
        if self._input_fd >= 0 and not self._input_pending:
            self._loop.forget(self._input_fd)
            if self._input_ends:
                self._drop_input()
        if was_pending:
            for client in self._clients:
                if client.has_stdin:
                    self._watch(client)

    def _drop_input(self) -> None:
        self._input_pending.clear()
        self._input_ends = True
        if self._input_fd >= 0:
            self._loop.forget(self._input_fd)
            os.close(self._input_fd)
            self._input_fd = -1

    def _release(self, client: Client) -> None:
        """Lets the client go after what it has still to get; one that takes nothing for 10 s is dropped."""
        client.leaving = True
        if client.flush_timer is not None:
            client.flush_timer.cancel()
        if not client.flush() or not client.pending:
            self._remove(client)
            return
        client.flush_timer = self._loop.call_later(FLUSH_S, lambda: self._remove(client))
        self._watch(client)
        self._resume_outputs()

    def _lose(self, client: Client) -> None:
        """The client reads no more. What it has typed before is still read and given to the program."""
        if client.leaving or not client.has_stdin:
            self._drop(client)
            return
        client.streams = ()
        client.pending.clear()
        if self._input_pending:
            self._loop.forget(client.fd)
        else:
            self._watch(client)
        self._resume_outputs()

    def _drop(self, client: Client) -> None:
        """The client is gone."""
        had_stdin = client.has_stdin
        self._remove(client)
        if had_stdin and self._stdin_once:
            self.close_stdin()

    def _remove(self, client: Client) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        if client.flush_timer is not None:
            client.flush_timer.cancel()
        self._loop.forget(client.fd)
        close_connection(client.fd)
        self._resume_outputs()
        self._check_finished()

    def _check_finished(self) -> None:
        if self._on_finished is not None and not self._clients:
            on_finished, self._on_finished = self._on_finished, None
            on_finished()


def close_connection(fd: int) -> None:
    """Ends a stream connection so that the peer reads all that was sent, then its end.

    Closing a socket while input is unread makes the peer's next read fail with ECONNRESET; after a
    shutdown no more can come, and what has come is read away.
    """
    connection = socket.socket(fileno=fd)
    try:
        connection.shutdown(socket.SHUT_RDWR)
        while connection.recv(READ_SIZE, socket.MSG_DONTWAIT):
            continue
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNRESET, errno.EAGAIN, errno.EPIPE):
            raise
    finally:
        connection.close()


def _write(fd: int, data: bytes | bytearray) -> int:
    """How much was taken, 0 for none now, -1 when nobody will read it."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO, errno.EBADF):
            return -1
        raise
