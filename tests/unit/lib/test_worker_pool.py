"""Workers that are kept: used again, not after a failure, and gone when their time is over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from wherry.lib.program import WorkerError, WorkerPool

# Any function of two arguments will do: it gets (None, report) and says whether they are the same.
TARGET = "operator:is_"


def workers() -> list[int]:
    pid = os.getpid()
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def with_pool(work: Callable[[WorkerPool], Awaitable[None]], idle_s: float = 60) -> None:
    async def main() -> None:
        pool = WorkerPool(places=2, idle_s=idle_s)
        try:
            await work(pool)
        finally:
            await pool.close()
        assert workers() == []

    asyncio.run(main())


def test_a_worker_is_used_again() -> None:
    async def work(pool: WorkerPool) -> None:
        assert await pool.run(TARGET, None) is False
        first = workers()
        assert len(first) == 1
        for _ in range(5):
            assert await pool.run(TARGET, None) is False
        assert workers() == first

    with_pool(work)


def test_as_many_as_there_are_places() -> None:
    async def work(pool: WorkerPool) -> None:
        await asyncio.gather(*(pool.run(TARGET, None) for _ in range(6)))
        assert 1 <= len(workers()) <= 2

    with_pool(work)


def test_a_worker_that_failed_is_not_used_again() -> None:
    async def work(pool: WorkerPool) -> None:
        await pool.run(TARGET, None)
        with pytest.raises(WorkerError):
            await pool.run("operator:nothing", None)
        assert workers() == []
        assert await pool.run(TARGET, None) is False

    with_pool(work)


def test_a_worker_that_died_while_it_waited_is_replaced() -> None:
    async def work(pool: WorkerPool) -> None:
        await pool.run(TARGET, None)
        os.kill(workers()[0], 9)
        async with asyncio.timeout(60):
            while next(iter(pool._idle)).returncode is None:  # noqa: ASYNC110 - nor does a Process
                await asyncio.sleep(0)
        assert await pool.run(TARGET, None) is False

    with_pool(work)


def test_an_idle_worker_ends() -> None:
    async def work(pool: WorkerPool) -> None:
        await pool.run(TARGET, None)
        async with asyncio.timeout(60):
            while workers():  # noqa: ASYNC110 - /proc wakes nobody
                await asyncio.sleep(0.01)

    with_pool(work, idle_s=0.01)


def test_a_cancelled_caller_ends_its_worker() -> None:
    async def work(pool: WorkerPool) -> None:
        running = asyncio.ensure_future(pool.run("builtins:eval", "while"))
        async with asyncio.timeout(60):
            while not workers():  # noqa: ASYNC110 - /proc wakes nobody
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])
        assert workers() == []

    with_pool(work)
