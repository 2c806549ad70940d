"""A process that the shim parents, with its pipes or pty: what is kept of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

from wherry.kernel.tty import set_window_size
from wherry.logs.codec import STDERR, STDOUT
from wherry.shim.loop import Loop
from wherry.shim.streams import Session, Sink


class ProgramFds:
    """The shim's descriptors of a program; -1 for one that it does not have.

    `stdin`, `stdout`, `stderr` are our ends of the pipes, or the pty's master twice and none; `root` holds
    the root's mount; `devpts` is where execs get their ptys from; the resolver's are the sockets of `runtime.resolver`.
    """

    __slots__ = (
        "console",
        "devpts",
        "pidfd",
        "resolver_streams",
        "resolver_udp",
        "root",
        "stderr",
        "stdin",
        "stdout",
    )

    def __init__(self) -> None:
        self.pidfd = -1
        self.stdin = -1
        self.stdout = -1
        self.stderr = -1
        self.console = -1
        self.root = -1
        self.devpts = -1
        self.resolver_udp = -1
        self.resolver_streams = -1

    def pack(self) -> tuple[list[str], list[int]]:
        """Names and values of those there are: a message cannot carry a -1."""
        names = [name for name in self.__slots__ if getattr(self, name) >= 0]
        return names, [getattr(self, name) for name in names]

    def resolver(self) -> list[int]:
        """Copies of the resolver's sockets, or none."""
        return [os.dup(fd) for fd in (self.resolver_udp, self.resolver_streams) if fd >= 0]

    def close_resolver(self) -> None:
        """Its sockets keep the network namespace alive. Idempotent."""
        for fd in (self.resolver_udp, self.resolver_streams):
            if fd >= 0:
                os.close(fd)
        self.resolver_udp = self.resolver_streams = -1

    @classmethod
    def unpack(cls, names: Sequence[str], values: list[int]) -> ProgramFds:
        """The inverse of `pack`; takes its values off the front of the list."""
        fds = cls()
        for name in names:
            setattr(fds, name, values.pop(0))
        return fds


class Program:
    """The container's init (`exec_id` None) or an exec. `exit_code` is None while it runs."""

    __slots__ = ("exec_id", "exit_code", "fds", "pid", "session")

    def __init__(
        self,
        exec_id: str | None,
        pid: int,
        fds: ProgramFds,
        *,
        loop: Loop,
        stdin_once: bool,
        sinks: dict[str, Sink],
        on_detach: Callable[[], None],
    ) -> None:
        """Begins to pump. A pty's output counts as stdout."""
        self.exec_id = exec_id
        self.exit_code: int | None = None
        self.pid = pid
        self.fds = fds
        outputs = ((STDOUT, fds.stdout), (STDERR, fds.stderr))
        self.session = Session(
            loop,
            terminal=fds.console >= 0,
            stdin_once=stdin_once,
            input_fd=fds.stdin,
            outputs=tuple((name, fd, sinks.get(name)) for name, fd in outputs if fd >= 0),
            on_detach=on_detach,
        )

    def resize(self, rows: int, columns: int) -> None:
        """Sets the window size; without a terminal, or after its end, does nothing."""
        if self.fds.console >= 0:
            set_window_size(self.fds.console, rows, columns)

    def kill(self) -> None:
        """SIGKILL; to one that has ended and was not reaped yet it does nothing."""
        signal.pidfd_send_signal(self.fds.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Closes what is not the session's: the root's mount goes when this was its last descriptor."""
        for name in ("pidfd", "console", "root", "devpts"):
            fd = getattr(self.fds, name)
            if fd >= 0:
                os.close(fd)
                setattr(self.fds, name, -1)
