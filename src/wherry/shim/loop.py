"""A small event loop on epoll: descriptors, deadlines, nothing else. asyncio would cost each shim 0.6 MB.

A callback gets the event mask; one that raises is reported and the loop goes on: it is one of the four
places where any exception is caught, since a fault in one stream must not end a container.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
LOST = select.EPOLLHUP | select.EPOLLERR  # always reported, also for a mask of 0

Callback = Callable[[int], None]


class Timer:
    """A deadline that may be cancelled."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Idempotent; also after it was due."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.deadline < other.deadline


class Loop:
    """Runs until `stop` is called."""

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callback]] = {}
        self._timers: list[Timer] = []
        self._report = report
        self._stopped = False

    def watch(self, fd: int, mask: int, callback: Callback) -> None:
        """Calls back when the descriptor is ready; replaces what was watched before."""
        current = self._watched.get(fd)
        self._watched[fd] = (mask, callback)
        if current is None:
            self._epoll.register(fd, mask)
        elif current[0] != mask:
            self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """Stops watching; before the descriptor is closed. Idempotent."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Calls back once, unless the timer is cancelled."""
        timer = Timer(time.monotonic() + delay_s, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Lets `run` return after the current round."""
        self._stopped = True

    def run(self) -> None:
        """Waits and calls back until stopped."""
        while not self._stopped:
            self.run_once()

    def run_once(self) -> None:
        """Waits for something, and calls back for all that is ready."""
        for fd, events in self._epoll.poll(self._timeout()):
            entry = self._watched.get(fd)
            if entry is None:
                continue
            try:
                entry[1](events)
            except Exception as error:  # noqa: BLE001 # the shim's edge: see above
                self._report(error)
        self._run_timers()

    def close(self) -> None:
        """Closes the epoll descriptor."""
        self._epoll.close()

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0].deadline - time.monotonic())

    def _run_timers(self) -> None:
        while self._timers and self._timers[0].deadline <= time.monotonic():
            callback = heapq.heappop(self._timers).callback
            if callback is None:
                continue
            try:
                callback()
            except Exception as error:  # noqa: BLE001 # the shim's edge: see above
                self._report(error)
