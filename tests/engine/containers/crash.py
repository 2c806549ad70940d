"""An engine that makes and starts one container and dies at a named step, as kill -9 would end it there.

usage: python -m tests.engine.containers.crash FOLDER TAG STEP
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.engine.containers.rig import running_rig

from wherry.engine.containers import create
from wherry.engine.containers.handle import Roster
from wherry.engine.containers.host_side import HostSide
from wherry.engine.images import Images
from wherry.engine.networks import Networks
from wherry.engine.shims import ShimHandle, Shims
from wherry.engine.volumes import Volumes
from wherry.model.container import ContainerConfig

CRASHED = 70

STEPS: dict[str, tuple[object, str, int]] = {
    "before the snapshot": (Images, "create_snapshot", -1),
    "after the snapshot": (Images, "create_snapshot", 1),
    "after the volume": (Volumes, "ensure", 1),
    "before the copy": (create, "populate_volume", -1),
    "after the copy": (create, "populate_volume", 1),
    "before the record": (Roster, "add", -1),
    "in the transaction": (Roster, "add", 1),
    "after the starting row": (Roster, "replace", 1),
    "after the network": (Networks, "connect", 1),
    "after the files": (HostSide, "prepare", 1),
    "before the launch": (Shims, "launch", -1),
    "after the launch": (Shims, "launch", 1),
    "after the running row": (Roster, "replace_anyway", 1),
    "at the end": (ShimHandle, "release", -1),
}


def die_at(owner: object, name: str, count: int) -> None:
    """Before the first call, or after the one of that number."""
    original: Callable[..., object] = getattr(owner, name)
    calls = [0]

    def before() -> None:
        calls[0] += 1
        if count < 0:
            os._exit(CRASHED)

    def after() -> None:
        if calls[0] == count:
            os._exit(CRASHED)

    async def asynchronous(*args: object, **kwargs: object) -> object:
        before()
        answer = original(*args, **kwargs)
        assert isinstance(answer, Awaitable)
        result = await answer
        after()
        return result

    def synchronous(*args: object, **kwargs: object) -> object:
        before()
        result = original(*args, **kwargs)
        after()
        return result

    is_async = inspect.iscoroutinefunction(original)
    setattr(owner, name, asynchronous if is_async else synchronous)


async def story(folder: Path, tag: str, step: str) -> None:
    async with running_rig(folder, tag) as rig:
        die_at(*STEPS[step])
        config = ContainerConfig(image="busybox", cmd=("sleep", "0.5"), volumes=("/etc",))
        await rig.create(name="crashed", config=config)
        await rig.services.containers.start("crashed")
        await rig.wait("crashed")
        await asyncio.sleep(5)


if __name__ == "__main__":
    asyncio.run(story(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
