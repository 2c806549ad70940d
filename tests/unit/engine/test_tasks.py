"""Tasks have an owner; promised work survives its caller."""

import asyncio

import pytest

from wherry.engine.tasks import Tasks


def test_promised_work_goes_on_when_the_caller_is_cancelled() -> None:
    async def story() -> list[str]:
        done: list[str] = []
        gate = asyncio.Event()

        async def work() -> None:
            await gate.wait()
            done.append("done")

        tasks = Tasks("test")
        caller = asyncio.ensure_future(tasks.finish(work(), "work"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        await tasks.close()
        return done

    assert asyncio.run(story()) == ["done"]


def test_failures_reach_the_caller_or_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def story() -> None:
        tasks = Tasks("test")
        with pytest.raises(ValueError, match="broken"):
            await tasks.finish(fail(), "asked")
        assert not caplog.records
        await asyncio.wait([tasks.spawn(fail(), "alone")])
        await asyncio.sleep(0)

    asyncio.run(story())
    assert [record.message for record in caplog.records] == ["task test: alone failed"]
