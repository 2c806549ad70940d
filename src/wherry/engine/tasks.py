"""Background tasks with an owner: started here, logged once when they fail, cancelled when the owner closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Iterable
from typing import TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Tasks:
    """The tasks of one service."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[object] | asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Starts the work; keeps it referenced until it ends."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def promise(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """As `spawn`, of work that closing waits for."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        task.add_done_callback(_log_failure)
        return task

    async def finish(self, work: Coroutine[object, object, Result], name: str) -> Result:
        """Runs to its end although the caller may be cancelled; then a failure is logged."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_log_failure)
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        _log_failure(task)

    async def settle(self) -> None:
        """Waits for what has been promised so far."""
        if self._finishing:
            await asyncio.wait(set(self._finishing))

    async def close(self, patience_s: float = 5.0) -> None:
        """Cancels what runs in the background, gives what was promised some time; waits for both."""
        for task in list(self._running):
            task.cancel()
        if self._finishing:
            _, late = await asyncio.wait(self._finishing, timeout=patience_s)
            for promised in late:
                promised.cancel()
        await asyncio.gather(*self._running, *self._finishing, return_exceptions=True)


def _log_failure(task: asyncio.Task[Result]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("task %s failed", task.get_name(), exc_info=error)


async def run_together(work: Iterable[Awaitable[Result]]) -> list[Result]:
    """Runs all at once; the first failure cancels the rest, which has ended when it is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]
