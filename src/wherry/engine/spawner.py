"""The spawner process, as the engine's child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from wherry.shim.interpreter import SPAWNER_PROGRAM, spawn_interpreter
from wherry.shim.protocol import FORK, FORK_BRIEF, open_pair, send_fork
from wherry.shim.spawner import READY

_SO_SNDBUFFORCE = 32
_REQUESTS_SIZE = 4 << 20


class Spawner:
    """The spawner process and the connection to it."""

    def __init__(self, run_dir: Path, on_lost: Callable[[], None]) -> None:
        ours, theirs = open_pair()
        try:
            self.pid = spawn_interpreter(
                SPAWNER_PROGRAM, ["spawner", str(run_dir)], theirs.fileno()
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(0)
        with contextlib.suppress(OSError):
            # Room for thousands of requests: a burst of starts must never find the queue full.
            ours.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _REQUESTS_SIZE)
        self._control = ours
        self._pidfd = os.pidfd_open(self.pid)
        self._on_lost: Callable[[], None] | None = None
        self._notify = on_lost
        self._loop = asyncio.get_running_loop()
        self._is_ready = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._loop.add_reader(ours.fileno(), self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    async def ready(self) -> None:
        """Returns when it has imported everything. Raises SpawnerLost when it ends before."""
        await self._is_ready
        self._on_lost = self._notify

    def fork_shim(self, control_fd: int, *, is_brief: bool) -> None:
        """Asks for a shim that takes orders from `control_fd`, which is given up. Raises SpawnerLost.

        A brief one starts its container itself (`wherry.shim.starter`).
        """
        if not send_fork(self._control, control_fd, FORK_BRIEF if is_brief else FORK):
            raise SpawnerLost

    async def close(self) -> None:
        """Closes the connection, which ends it, and waits for that."""
        self._on_lost = None
        self._close_control()
        await self._ended

    def _read(self) -> None:
        try:
            data = self._control.recv(len(READY))
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if data:
            self._is_ready.set_result(None)
        else:
            self._close_control()

    def _close_control(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        if not self._is_ready.done():
            self._is_ready.set_exception(SpawnerLost())

    def _lose(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self._close_control()
        self._ended.set_result(None)
        self._lose()


class SpawnerLost(Exception):
    """The spawner died before it forked the shim: nothing has happened, the start may be tried again."""
