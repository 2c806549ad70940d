"""Copies between the person's descriptors and a container's stream, and passes signals on.

Theory of operation: one thread and one poll. Input is taken only while the socket takes it, output
is written before more is read, so nothing grows; both directions of a stream stay independent
(input may end long before output does). Signal handlers make their request to the engine at once, on
a connection of their own: Python runs them between two steps of this loop or of a wait.
"""

from __future__ import annotations

import os
import select

from wherry.cli.output import write_all
from wherry.client.errors import CannotConnect, ClientError, ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    from wherry.cli.terminal import RawTerminal
    from wherry.client.transport import Stream
    from wherry.lib.detach import DetachScanner
else:
    import _signal

READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL
PENDING_LIMIT = 1 << 18
FRAME_HEADER = 8
TELL_AGAIN_S = 0.5

# Never passed on: they cannot be caught, concern this process alone, or are its own faults.
PRIVATE_SIGNALS = frozenset(
    {
        _signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG,
        _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGILL, _signal.SIGFPE, _signal.SIGTRAP,
        _signal.SIGABRT, _signal.SIGSYS, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGPROF,
    }
)  # fmt: skip


class Terminated(Exception):
    """A signal asked this process to end while the terminal was raw."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Demultiplexer:
    """Takes frames of stream number and length apart and writes each to its descriptor."""

    __slots__ = ("_buffer", "_left", "_stderr", "_stdout", "_target")

    def __init__(self, stdout: int, stderr: int) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._buffer = b""
        self._left = 0
        self._target = -1

    def feed(self, data: bytes) -> None:
        """Writes what is complete; a payload is written as it arrives."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at = 0
        while at < len(data):
            if not self._left:
                if len(data) - at < FRAME_HEADER:
                    self._buffer = data[at:]
                    return
                self._left = int.from_bytes(data[at + 4 : at + FRAME_HEADER], "big")
                self._target = self._stderr if data[at] in {2, 3} else self._stdout
                at += FRAME_HEADER
                continue
            payload = data[at : at + self._left]
            at += len(payload)
            self._left -= len(payload)
            if self._target >= 0:
                write_all(self._target, payload)


class Attachment:
    """How the person is attached: which descriptors, whether raw, how to detach."""

    __slots__ = ("detach_keys", "stderr", "stdin", "stdout", "tty")

    def __init__(
        self, *, stdin: bool, stdout: bool, stderr: bool, tty: bool, detach_keys: str = ""
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.tty = tty
        self.detach_keys = detach_keys

    def make_scanner(self) -> DetachScanner | None:
        """What finds the detach keys; Docker's own keys if the given ones make no sense."""
        if not (self.stdin and self.tty):
            return None
        from wherry.lib.detach import DEFAULT_DETACH_KEYS, DetachScanner, parse_detach_keys

        try:
            keys = parse_detach_keys(self.detach_keys)
        except ValueError as exc:
            from wherry.cli.output import line_error

            line_error(f"invalid detach escape keys, using default: {exc}")
            keys = DEFAULT_DETACH_KEYS
        return DetachScanner(keys)


def pump(stream: Stream, attachment: Attachment) -> bool:
    """Copies until the container's output ends; True if the detach keys were typed."""
    stream.set_nonblocking()
    poller = select.poll()
    socket = stream.fileno()
    stdin = 0 if attachment.stdin else -1
    detach = attachment.make_scanner()
    wants_output = attachment.stdout or attachment.stderr
    output = _make_output(attachment)
    pending = b""
    poller.register(socket, READABLE)
    if stdin >= 0:
        try:
            poller.register(stdin, READABLE)
        except OSError:
            stdin = -1
            stream.close_write()
    while True:
        # What was read with the head of the answer is not seen by poll.
        buffered = stream.has_buffered()
        ready = poller.poll(0 if buffered else None)
        if buffered:
            ready = [(socket, READABLE), *(item for item in ready if item[0] != socket)]
        for fd, events in ready:
            if fd == socket and events & READABLE:
                try:
                    data = stream.recv()
                except BlockingIOError:
                    continue
                if not data:
                    return False
                output(data)
            elif fd == stdin:
                try:
                    data = os.read(stdin, 1 << 16)
                except OSError:
                    data = b""
                if detach is not None:
                    data_to_send, detached = detach.feed(data)
                    if detached:
                        return True
                    if data and not data_to_send:
                        continue
                else:
                    data_to_send = data
                if not data:
                    poller.unregister(stdin)
                    stdin = -1
                pending += data_to_send
        if pending:
            pending = _send_some(stream, pending)
            if pending and len(pending) > PENDING_LIMIT and stdin >= 0:
                poller.modify(stdin, 0)
            elif stdin >= 0:
                poller.modify(stdin, READABLE)
            poller.modify(socket, READABLE | (select.POLLOUT if pending else 0))
        if stdin < 0 and attachment.stdin and not pending:
            attachment.stdin = False
            stream.close_write()
            if not wants_output:
                return False


def _make_output(attachment: Attachment) -> Callable[[bytes], None]:
    stdout = 1 if attachment.stdout else -1
    if attachment.tty:
        return lambda data: write_all(1, data)
    return Demultiplexer(stdout, 2 if attachment.stderr else -1).feed


def _send_some(stream: Stream, pending: bytes) -> bytes:
    try:
        return pending[stream.send(pending) :]
    except BlockingIOError:
        return pending
    except OSError:
        # The container does not read any more; its output may still come.
        return b""


class Console:
    """Raw mode around a pump, restored on every way out, also when a signal ends the process."""

    __slots__ = ("_catches", "_terminal")

    def __init__(self, *, raw: bool, catches: bool) -> None:
        self._terminal: RawTerminal | None = None
        if raw:
            # termios and fcntl are loaded only where there is a terminal.
            from wherry.cli.terminal import RawTerminal

            self._terminal = RawTerminal(0)
        self._catches = catches and raw

    def __enter__(self) -> None:
        if self._terminal is None:
            return
        if self._catches:
            for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT):
                _signal.signal(number, _raise_terminated)
        self._terminal.enter()

    def __exit__(self, *exc: object) -> None:
        if self._terminal is not None:
            self._terminal.restore()


def _raise_terminated(number: int, _frame: object) -> None:
    raise Terminated(number)


def die_of(number: int) -> int:
    """Ends this process as the signal would have."""
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def proxy_signals(kill: Callable[[str], None]) -> None:
    """Passes every signal that this process gets on to the container, by `kill(signal name)`."""

    def forward(number: int, _frame: object) -> None:
        try:
            kill(str(number))
        except ClientError:
            # The container is gone or the engine is; what waits for the exit will say so.
            pass

    for number in range(1, 65):
        if number in PRIVATE_SIGNALS or number in {32, 33}:
            continue
        try:
            _signal.signal(number, forward)
        except (OSError, ValueError):
            continue


def follow_window_size(resize: Callable[[int, int], None]) -> None:
    """Tells the engine the size of the terminal, now and whenever it changes.

    While the engine is away (a restart) the size is told again until it has been heard.
    """
    from wherry.cli.terminal import terminal_size

    def tell(_number: int = 0, _frame: object = None) -> None:
        rows, columns = terminal_size(1)
        if not rows and not columns:
            return
        try:
            resize(rows, columns)
        except (CannotConnect, ConnectionLost):
            _signal.setitimer(_signal.ITIMER_REAL, TELL_AGAIN_S)
        except ClientError:
            # The program has ended.
            pass

    _signal.signal(_signal.SIGWINCH, tell)
    _signal.signal(_signal.SIGALRM, tell)
    tell()


def check_tty(*, stdin: bool, tty: bool) -> None:
    """Refuses -it when standard input is no terminal."""
    if stdin and tty and not _is_terminal(0):
        from wherry.cli.errors import CommandFailed

        raise CommandFailed("the input device is not a TTY")


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
