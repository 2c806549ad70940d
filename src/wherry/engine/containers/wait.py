"""Waiting for a container's end: `docker wait`, and the wait that `docker run` opens before it starts.

A waiter is registered at once, so that no end can be missed between the answer's head and the wait.
Its spare descriptor goes to the shim, which completes the answer there if the engine is gone at the
end (pitfall 14).
"""

from __future__ import annotations

import asyncio
import os

from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.requests import WaitCondition
from wherry.engine.containers.state import ACTIVE
from wherry.engine.shims import ShimGone, ShimHandle
from wherry.model.views import WaitResult


class Waiter:
    """One registered wait."""

    __slots__ = ("_future", "_handle", "condition", "spare")

    def __init__(self, handle: ContainerHandle, condition: WaitCondition, spare: int) -> None:
        self._handle = handle
        self.condition = condition
        self.spare = spare
        self._future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()

    async def result(self) -> WaitResult:
        """How the container ended. Cancelling gives the wait up."""
        try:
            return await self._future
        finally:
            self.close()

    def close(self) -> None:
        """Gives the wait up; idempotent."""
        if self in self._handle.waiters:
            self._handle.waiters.remove(self)
        self._future.cancel()
        self.close_spare()

    def close_spare(self) -> None:
        """Closes the spare when no shim has taken it."""
        if self.spare >= 0:
            os.close(self.spare)
            self.spare = -1

    def take_spare(self) -> int:
        """Gives the spare away (to a shim); -1 when there is none."""
        spare, self.spare = self.spare, -1
        return spare

    def answer(self, result: WaitResult) -> None:
        """Completes the wait."""
        if not self._future.done():
            self._future.set_result(result)


def begin_wait(
    handle: ContainerHandle, condition: WaitCondition, spare: int | None = None
) -> Waiter:
    """Registers a waiter; one whose condition is already met answers at once."""
    waiter = Waiter(handle, condition, -1 if spare is None else spare)
    state = handle.record.state
    if condition == "not-running" and state.status not in ACTIVE and not state.starting:
        waiter.answer(WaitResult(exit_code=state.exit_code, error=state.error))
        waiter.close_spare()
        return waiter
    handle.waiters.append(waiter)
    return waiter


async def hand_over_spare(waiter: Waiter, shim: ShimHandle | None) -> None:
    """Gives the spare to the shim of a container that runs already; a start takes those that wait."""
    if shim is None or waiter.spare < 0:
        return
    try:
        await shim.add_waiter(waiter.take_spare())
    except ShimGone:
        return  # the end is on its way to this very waiter


def answer_end(handle: ContainerHandle, result: WaitResult) -> None:
    """The program has ended: answers everyone but those who wait for the removal."""
    _answer(handle, [w for w in handle.waiters if w.condition != "removed"], result)


def answer_removal(handle: ContainerHandle, result: WaitResult) -> None:
    """The container is gone: answers everyone."""
    _answer(handle, list(handle.waiters), result)


def _answer(handle: ContainerHandle, waiters: list[Waiter], result: WaitResult) -> None:
    for waiter in waiters:
        waiter.answer(result)
        waiter.close_spare()
        if waiter in handle.waiters:
            handle.waiters.remove(waiter)
