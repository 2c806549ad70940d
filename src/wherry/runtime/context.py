"""What the steps of one launch share: descriptors, and who the process will be.

Filled by the launching process (`Step.prepare`), inherited by init across clone3, used by `Step.apply`.
Descriptors in it are close-on-exec; init closes what is left of them in one call before exec.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Iterator

from wherry.runtime.users import Identity, PasswdEntry


class Context:
    """The mutable state of one launch."""

    __slots__ = (
        "console",
        "devpts",
        "go",
        "identity",
        "in_user_namespace",
        "joins",
        "kept",
        "mounts",
        "orders",
        "passwd",
        "proc_sys",
        "rehearses",
        "report",
        "root",
        "sources",
        "stdio",
        "terminal",
    )

    def __init__(self) -> None:
        self.root = -1  # the root's mount
        self.devpts = -1  # the container's devpts, made by the launching process
        self.console = -1  # the pty's master, kept by the launching process
        self.terminal = -1  # the pty's slave
        self.proc_sys = -1  # /proc/sys as it is below what makes it read-only
        self.stdio: tuple[int, int, int] | None = None
        self.go = -1  # init reads a byte from it when cgroups, maps and network are there
        self.report = -1  # init's record goes here; closed by a successful exec
        self.sources: dict[str, int] = {}  # destination: detached tree of a bind's source
        self.kept: list[int] = []  # more that init must find open
        self.joins: dict[str, int] = {}  # kind: namespace to enter
        self.mounts: dict[str, int] = {}  # destination: mount made there, for later steps
        self.orders: _socket.socket | None = None  # of an init that was made ahead
        self.rehearses = False  # whether that has the time to
        self.in_user_namespace = False
        self.identity = Identity(0, 0, (), "/")
        self.passwd: list[PasswdEntry] | None = None

    def descriptors(self) -> Iterator[int]:
        """Everything that init needs above 2."""
        yield from (self.root, self.devpts, self.terminal, self.go, self.report)
        yield from self.stdio or ()
        yield from self.sources.values()
        yield from self.joins.values()
        yield from self.kept
        if self.orders is not None:
            yield self.orders.fileno()

    def close_private(self) -> None:
        """In the launching process: close what only init needed."""
        for fd in (self.terminal, self.go, self.report):
            if fd >= 0:
                os.close(fd)
        self.terminal = self.go = self.report = -1
        for table in (self.sources, self.joins):
            while table:
                os.close(table.popitem()[1])

    def close(self) -> None:
        """In the launching process, after a failure: close everything."""
        self.close_private()
        for fd in (self.root, self.devpts, self.console):
            if fd >= 0:
                os.close(fd)
        self.root = self.devpts = self.console = -1
