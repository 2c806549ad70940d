"""A process that the shim parents, with its pipes or pty: how it is started, and what is kept of it."""

from __future__ import annotations

import os
from collections.abc import Callable

from wherry.kernel.tty import set_window_size
from wherry.logs.codec import STDERR, STDOUT
from wherry.runtime.launch import Launched
from wherry.shim.loop import Loop
from wherry.shim.protocol import close_all
from wherry.shim.streams import Session, Sink

Stdio = tuple[int, int, int]


class Program:
    """The container's init (`exec_id` None) or an exec. `exit_code` is None while it runs."""

    __slots__ = ("_input_fd", "_outputs", "console", "exec_id", "exit_code", "launched", "session")

    def __init__(
        self, exec_id: str | None, launched: Launched, input_fd: int, outputs: tuple[int, ...]
    ) -> None:
        self.exec_id = exec_id
        self.exit_code: int | None = None
        self.launched = launched
        self.console = launched.console
        self.session: Session | None = None
        self._input_fd = input_fd
        self._outputs = outputs

    def connect(
        self,
        loop: Loop,
        *,
        stdin_once: bool,
        sinks: dict[str, Sink],
        on_detach: Callable[[], None],
    ) -> Session:
        """Begins to pump. A pty's output counts as stdout."""
        streams = (STDOUT, STDERR)
        self.session = Session(
            loop,
            terminal=self.console >= 0,
            stdin_once=stdin_once,
            input_fd=self._input_fd,
            outputs=tuple(
                (stream, fd, sinks.get(stream))
                for stream, fd in zip(streams, self._outputs, strict=False)
            ),
            on_detach=on_detach,
        )
        return self.session

    def resize(self, rows: int, columns: int) -> None:
        """Sets the window size; without a terminal, or after its end, does nothing."""
        if self.console >= 0:
            set_window_size(self.console, rows, columns)

    def close(self) -> None:
        """Closes all descriptors but the session's: the root's mount goes when this was its last."""
        launched = self.launched
        close_all(
            [
                fd
                for fd in (launched.pidfd, launched.console, launched.root, launched.devpts)
                if fd >= 0
            ]
        )
        self.console = -1


def start_program(
    exec_id: str | None,
    *,
    terminal: bool,
    stdin: bool,
    start: Callable[[Stdio | None], Launched],
) -> Program:
    """Calls `start` with the program's ends of new pipes, or with None for a pty. Raises what it raises."""
    if terminal:
        launched = start(None)
        # epoll knows a descriptor once: reading and writing each have their own.
        return Program(exec_id, launched, os.dup(launched.console), (os.dup(launched.console),))
    input_fd = -1
    if stdin:
        stdin_fd, input_fd = os.pipe2(os.O_CLOEXEC)
    else:
        stdin_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    try:
        launched = start((stdin_fd, out_write, err_write))
    except BaseException:
        close_all([fd for fd in (input_fd, out_read, err_read) if fd >= 0])
        raise
    finally:
        # While we hold the program's ends its outputs would never end.
        close_all([stdin_fd, out_write, err_write])
    return Program(exec_id, launched, input_fd, (out_read, err_read))
