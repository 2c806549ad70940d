"""Steps that several builds want: done once, and what nobody takes is dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wherry.engine.build.flights import Done, Flights, Listener
from wherry.engine.build.layers import Layer


def ignore(stream: int, data: bytes) -> None:
    """Output."""


def test_a_result_that_comes_together_with_the_end_of_who_wanted_it() -> None:
    dropped: list[Layer] = []
    layer = Layer(None, Path("/nowhere/upper"))

    async def main() -> None:
        flights = Flights(dropped.append)

        async def do(output: Listener) -> Done:
            output(1, b"")
            asyncio.get_running_loop().call_soon(caller.cancel)
            return Done(layer=layer)

        caller = asyncio.create_task(flights.join("key", do, ignore))
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(main())
    assert dropped == [layer]


def test_a_result_that_another_has_taken_stays() -> None:
    dropped: list[Layer] = []

    async def main() -> None:
        flights = Flights(dropped.append)

        async def do(output: Listener) -> Done:
            output(1, b"")
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(second.cancel)
            return Done(layer=Layer(None, Path("/nowhere/upper")))

        first = asyncio.create_task(flights.join("key", do, ignore))
        second = asyncio.create_task(flights.join("key", do, ignore))
        done, began = await first
        assert began
        assert done.layer is not None
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(main())
    assert dropped == []
