"""An engine that does one thing and dies at a named step of it, as kill -9 would end it there.

usage: python -m tests.engine.containers.crash FOLDER TAG STEP
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.engine.containers.rig import Rig, running_rig

from wherry.engine.connections import Connections
from wherry.engine.containers import create
from wherry.engine.containers.handle import Roster
from wherry.engine.containers.host_side import HostSide
from wherry.engine.containers.remove import Discarder
from wherry.engine.images import Images
from wherry.engine.images.catalog import Catalog
from wherry.engine.images.collector import Collector
from wherry.engine.networks import BRIDGE_OPTION, Networks
from wherry.engine.shims import ShimHandle, Shims
from wherry.engine.store import Table
from wherry.engine.volumes import Volumes
from wherry.model.container import ContainerConfig, EndpointConfig
from wherry.volume.local import LocalVolumes

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

# A container "crashed" with an anonymous volume, a network "net" and a volume "vol" are there; what is done with
# them, and where it ends.
OTHERS: dict[str, tuple[str, object, str, int]] = {
    "rm: before the record": ("rm", Roster, "forget", -1),
    "rm: after the record": ("rm", Roster, "forget", 1),
    "rm: with its files aside": ("rm", Discarder, "_set_aside", 1),
    "rm: before the snapshot": ("rm", Images, "remove_snapshot", -1),
    "rm: in the volume": ("rm", LocalVolumes, "empty", 1),
    "rm: after the volume": ("rm", Volumes, "remove", 1),
    "rm -f: after the kill": ("rm -f", ShimHandle, "send_signal", 1),
    "rm -f: after the end": ("rm -f", Roster, "replace_anyway", 1),
    "rm -f: before the release": ("rm -f", ShimHandle, "release", -1),
    "rename: before the record": ("rename", Roster, "replace", -1),
    "rename: after the record": ("rename", Roster, "replace", 1),
    "exec: before the program": ("exec", ShimHandle, "exec", -1),
    "exec: after the program": ("exec", ShimHandle, "exec", 1),
    "connect: after the address": ("connect", Networks, "connect", 1),
    "connect: after the interface": ("connect", Connections, "_run", 1),
    "connect: after the record": ("connect", Roster, "replace", 1),
    "disconnect: after the interface": ("disconnect", Connections, "_run", 1),
    "disconnect: after the record": ("disconnect", Roster, "replace", 1),
    "network: after the record": ("network create", Networks, "_add", 1),
    "network: after the bridge": ("network create", Networks, "_ensure_bridge", 1),
    "network rm: before the record": ("network rm", Table, "delete", -1),
    "network rm: after the record": ("network rm", Table, "delete", 1),
    "volume: after the folder": ("volume create", LocalVolumes, "make", 1),
    "volume: after the record": ("volume create", Table, "put", 1),
    "volume rm: after the files": ("volume rm", LocalVolumes, "empty", 1),
    "volume rm: after the record": ("volume rm", Table, "delete", 1),
    "image rm: after the name": ("image rm", Catalog, "unpoint", 1),
    "image rm: after the record": ("image rm", Catalog, "delete_image", 1),
    "image rm: before the layers": ("image rm", Images, "collect", -1),
    "image rm: in the layers": ("image rm", Collector, "_new_trash", 1),
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


async def other_story(folder: Path, tag: str, step: str) -> None:
    action, *where = OTHERS[step]
    async with running_rig(folder, tag) as rig:
        config = ContainerConfig(image="busybox", cmd=("sleep", "600"), volumes=("/etc",))
        await rig.create(name="crashed", config=config)
        if action in {"rm -f", "exec", "connect", "disconnect"}:
            await rig.services.containers.start("crashed")
        if action != "network create":
            await create_network(rig)
        if action == "disconnect":
            await rig.connections.connect("net", "crashed", EndpointConfig())
        if action != "volume create":
            await rig.volumes.ensure("vol")
        if action == "image rm":
            await rig.services.containers.remove("crashed", volumes=True)
        die_at(*where)  # type: ignore[arg-type]
        await act(rig, action)
        await asyncio.sleep(5)


async def create_network(rig: Rig) -> None:
    """Its bridge has a name by which a test finds it again."""
    await rig.networks.create("net", options={f"{BRIDGE_OPTION}name": f"{rig.tag}n"})


async def act(rig: Rig, action: str) -> None:
    match action:
        case "rm":
            await rig.services.containers.remove("crashed", volumes=True)
        case "rm -f":
            await rig.services.containers.remove("crashed", force=True, volumes=True)
        case "rename":
            await rig.services.containers.rename("crashed", "renamed")
        case "exec":
            await rig.exec("crashed", "true")
        case "connect":
            await rig.connections.connect("net", "crashed", EndpointConfig())
        case "disconnect":
            await rig.connections.disconnect("net", "crashed")
        case "network create":
            await create_network(rig)
        case "network rm":
            await rig.networks.remove("net")
        case "volume create":
            await rig.volumes.ensure("vol")
        case "volume rm":
            await rig.volumes.remove("vol")
        case "image rm":
            await rig.images.remove("busybox")


if __name__ == "__main__":
    play = other_story if sys.argv[3] in OTHERS else story
    asyncio.run(play(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
