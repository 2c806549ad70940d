"""What stages share: begun once, awaited by all, ended with the build."""

from __future__ import annotations

import asyncio

import pytest

from wherry.engine.build.shared import Shared


def test_work_is_begun_once() -> None:
    begun: list[str] = []

    async def make() -> str:
        begun.append("")
        await asyncio.sleep(0)
        return "made"

    async def main() -> None:
        shared: Shared[str, str] = Shared()
        assert await asyncio.gather(*(shared.get("a", make) for _ in range(3))) == ["made"] * 3
        assert len(begun) == 1
        assert await shared.end() == ["made"]
        assert await shared.end() == []

    asyncio.run(main())


def test_the_end_leaves_nothing_that_goes_on() -> None:
    ended: list[str] = []

    async def never() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("")
        return ""

    async def fail() -> str:
        raise ValueError("no")

    async def main() -> None:
        shared: Shared[str, str] = Shared()
        caller = asyncio.create_task(shared.get("never", never))
        with pytest.raises(ValueError, match="no"):
            await shared.get("fail", fail)
        caller.cancel()
        await asyncio.wait([caller])
        assert not ended  # another may want it
        assert await shared.end() == []
        assert ended

    asyncio.run(main())
