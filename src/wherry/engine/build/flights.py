"""Steps in flight: the same step asked for by several builds at once is done once, and all see its output."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from wherry.engine.build.layers import Layer
from wherry.engine.clock import now

Listener = Callable[[int, bytes], None]
MAX_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step came to; `content` is a digest of what it copied from a tree."""

    layer: Layer | None
    content: str = ""
    created: str = ""  # set here: everybody who waited records the same moment


@dataclass(slots=True)
class Flight:
    """One step being done."""

    task: asyncio.Task[Done]
    waiting: int = 0
    is_taken: bool = False
    buffer: list[tuple[int, bytes]] = field(default_factory=list)
    buffered: int = 0
    listeners: list[Listener] = field(default_factory=list)

    def output(self, stream: int, data: bytes) -> None:
        """Passes output to everybody, and keeps it for those who come later."""
        if self.buffered < MAX_BUFFER:
            self.buffer.append((stream, data))
            self.buffered += len(data)
        for listener in self.listeners:
            listener(stream, data)


class Flights:
    """All of one engine, by cache key."""

    def __init__(self, drop: Callable[[Layer], None]) -> None:
        """`drop` frees a layer that nobody takes."""
        self._drop = drop
        self._flights: dict[str, Flight] = {}

    async def join(
        self, key: str, do: Callable[[Listener], Awaitable[Done]], listener: Listener
    ) -> tuple[Done, bool]:
        """Does the step, or waits for who does; answers the result and whether this caller began it.

        When the last caller is cancelled the step is cancelled too, and awaited; what it came to all the same is dropped.
        """
        flight = self._flights.get(key)
        began = flight is None
        if flight is None:
            flight = self._begin(key, do)
        for stream, data in flight.buffer:
            listener(stream, data)
        flight.listeners.append(listener)
        flight.waiting += 1
        try:
            done = await asyncio.shield(flight.task)
            flight.is_taken = True
            return done, began
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.is_taken:
                flight.task.cancel()
                await asyncio.wait([flight.task])
                self._drop_result(flight.task)
            raise
        finally:
            flight.waiting -= 1
            flight.listeners.remove(listener)

    def _drop_result(self, task: asyncio.Task[Done]) -> None:
        if not task.cancelled() and task.exception() is None:
            layer = task.result().layer
            if layer is not None:
                self._drop(layer)

    def _begin(self, key: str, do: Callable[[Listener], Awaitable[Done]]) -> Flight:
        def output(stream: int, data: bytes) -> None:
            flight.output(stream, data)

        async def run() -> Done:
            return replace(await do(output), created=now())

        task = asyncio.get_running_loop().create_task(run(), name=f"build step {key[:12]}")
        flight = Flight(task)
        self._flights[key] = flight

        def forget(task: asyncio.Task[Done]) -> None:
            self._flights.pop(key, None)
            if not task.cancelled():
                task.exception()  # seen, even when every caller has gone

        task.add_done_callback(forget)
        return flight
