"""The spawner process, as the engine's child, and the slots that it has forked ahead.

Slots are refilled one by one, and only while no start is in progress: a refill that competes with starts
makes them slower than no slots at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from wherry.engine.shimpeer import Peer
from wherry.lib.jsonvalue import get_str
from wherry.shim.interpreter import SPAWNER_PROGRAM, spawn_interpreter
from wherry.shim.protocol import Channel, Message, open_pair, send_fork
from wherry.shim.slots import SLOT_PREFIX
from wherry.shim.spawner import READY

_REFILL_DELAY_S = 0.01
_CLOSE_PATIENCE_S = 5.0
_MOST_CLASSES = 4
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

    def fork_shim(self, control_fd: int, slot_path: str = "") -> None:
        """Asks for a shim that takes orders from `control_fd`, which is given up; for a slot with a path.

        Raises SpawnerLost.
        """
        if not send_fork(self._control, slot_path, control_fd):
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


class Slots:
    """Up to `count` shims for each class that was asked for, waiting for their orders."""

    def __init__(self, count: int, fork: Callable[[int, str], None]) -> None:
        """`fork` forks a shim with its end of a connection and the path of its cgroup, or raises SpawnerLost."""
        self._count = count
        self._fork = fork
        self._ready: dict[str, deque[Peer]] = {}
        self._filling: Peer | None = None
        self._starts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def want(self, slot_class: str) -> None:
        """Keeps slots of this class from now on; the class that was added first makes room."""
        if self._count and slot_class not in self._ready:
            while len(self._ready) >= _MOST_CLASSES:
                for peer in self._ready.pop(next(iter(self._ready))):
                    peer.close()
            self._ready[slot_class] = deque()
            self._refill_later()

    def take(self, slot_class: str) -> Peer | None:
        """A slot that is ready, or None."""
        self.want(slot_class)
        ready = self._ready.get(slot_class)
        if not ready:
            return None
        peer = ready.popleft()
        peer.unsubscribe()
        return peer

    @property
    def ready(self) -> int:
        """How many wait for orders."""
        return sum(len(ready) for ready in self._ready.values())

    def begin_start(self) -> None:
        """A start is in progress: nothing is refilled before it ends."""
        self._starts += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end_start(self) -> None:
        """To each `begin_start`."""
        self._starts -= 1
        self._refill_later()

    async def close(self) -> None:
        """Ends the slots that wait; returns when they have left no trace."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        peers = [peer for ready in self._ready.values() for peer in ready]
        if self._filling is not None:
            peers.append(self._filling)
        self._ready.clear()
        await asyncio.gather(*(peer.end(_CLOSE_PATIENCE_S) for peer in peers))

    def _refill_later(self) -> None:
        if not self._starts and self._timer is None and self._filling is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_REFILL_DELAY_S, self._refill)

    def _refill(self) -> None:
        self._timer = None
        wanted = [name for name, ready in self._ready.items() if len(ready) < self._count]
        if not wanted:
            return
        slot_class = wanted[-1]
        ours, theirs = open_pair()
        peer = self._filling = Peer(Channel(ours))
        try:
            self._fork(theirs.detach(), f"{slot_class}/{SLOT_PREFIX}{secrets.token_hex(6)}")
        except SpawnerLost:
            self._filling = None
            peer.close()
            return
        peer.subscribe(
            lambda message: self._take_event(slot_class, peer, message),
            lambda: self._lose(slot_class, peer),
        )

    def _take_event(self, slot_class: str, peer: Peer, message: Message) -> None:
        message.close()
        if get_str(message.body, "event") != "ready" or peer is not self._filling:
            return
        self._filling = None
        if slot_class in self._ready and not self._closed:
            self._ready[slot_class].append(peer)
        else:
            peer.close()
        self._refill_later()

    def _lose(self, slot_class: str, peer: Peer) -> None:
        """It was killed, or could not be made: then the next start tries again, not the timer."""
        if peer is self._filling:
            self._filling = None
        ready = self._ready.get(slot_class)
        if ready is not None and peer in ready:
            ready.remove(peer)
            self._refill_later()


class SpawnerLost(Exception):
    """The spawner died before it forked the shim: nothing has happened, the start may be tried again."""
