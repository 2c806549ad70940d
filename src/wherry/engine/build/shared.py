"""What several stages of a build want is begun by the first and awaited by all; nothing of it outlives the build."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Shared(Generic[Key, Result]):
    """Tasks by key."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[Result]] = {}

    def begin(
        self, key: Key, make: Callable[[], Coroutine[object, object, Result]]
    ) -> asyncio.Task[Result]:
        """The task, begun unless it is known."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(make(), name=f"build {key}")
            self._tasks[key] = task
        return task

    async def get(self, key: Key, make: Callable[[], Coroutine[object, object, Result]]) -> Result:
        """Its result; a caller that is cancelled leaves it to the others."""
        return await asyncio.shield(self.begin(key, make))

    async def end(self) -> list[Result]:
        """Cancels what goes on, waits for it, and forgets all; answers the results that there are."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        return [task.result() for task in tasks if not task.cancelled() and not task.exception()]
