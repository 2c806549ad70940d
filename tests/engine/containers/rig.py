"""The container services on real images, networks, volumes and shims, with names of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.images.make import make_image

from wherry.engine.assembly import ContainerServices
from wherry.engine.connections import Connections
from wherry.engine.containers.requests import AttachOptions
from wherry.engine.events import Events
from wherry.engine.images import Images
from wherry.engine.networks import Networks
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import Shims
from wherry.engine.store import Store
from wherry.engine.streams import ClientStream
from wherry.engine.volumes import Volumes
from wherry.model.container import ContainerConfig, ContainerId, ExecConfig, HostConfig
from wherry.model.errors import NoSuchImage

DEADLINE_S = 120.0


@dataclass(slots=True)
class Rig:
    """A running engine without an API."""

    folder: Path
    tag: str
    store: Store
    events: Events
    images: Images
    networks: Networks
    volumes: Volumes
    services: ContainerServices
    connections: Connections

    @property
    def containers_folder(self) -> Path:
        return self.folder / "root" / "containers"

    async def create(
        self,
        *cmd: str,
        name: str = "",
        host: HostConfig | None = None,
        config: ContainerConfig | None = None,
    ) -> ContainerId:
        asked = config or ContainerConfig(image="busybox", cmd=cmd)
        identity, _ = await self.services.containers.create(name, asked, host or HostConfig(), {})
        return identity

    async def start(self, *cmd: str, name: str = "", host: HostConfig | None = None) -> ContainerId:
        identity = await self.create(*cmd, name=name, host=host)
        await self.services.containers.start(identity)
        return identity

    async def run(
        self, *cmd: str, host: HostConfig | None = None, config: ContainerConfig | None = None
    ) -> tuple[int, str]:
        """Exit code and output, through a terminal's raw stream; removes the container."""
        containers = self.services.containers
        asked = config or ContainerConfig(image="busybox", cmd=cmd)
        identity = await self.create(config=asked, host=host)
        client = Client()
        await containers.attach(
            identity, AttachOptions(stream=True, stdout=True, stderr=True), client.hijack
        )
        waiter = await containers.begin_wait(identity, "next-exit")
        try:
            await containers.start(identity)
            output = await client.read()
            return (await waiter.result()).exit_code, output
        finally:
            waiter.close()
            await containers.remove(identity, force=True)

    async def exec(self, ref: str, *cmd: str, working_dir: str = "") -> tuple[int | None, str]:
        """Exit code and output of an exec."""
        execs = self.services.execs
        asked = ExecConfig(cmd=cmd, attach_stdout=True, attach_stderr=True, working_dir=working_dir)
        exec_id = await execs.create(ref, asked)
        client = Client()
        await execs.start(exec_id, hijack=client.hijack)
        return await client.read_until(lambda: execs.get(exec_id).exit_code)

    async def wait(self, ref: str) -> int:
        waiter = await self.services.containers.begin_wait(ref, "not-running")
        async with asyncio.timeout(DEADLINE_S):
            return (await waiter.result()).exit_code


class Client:
    """A hijacked connection's other end."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)

    async def hijack(self, multiplexed: bool) -> ClientStream:
        self.multiplexed = multiplexed
        return ClientStream(self._theirs.detach())

    async def read(self) -> str:
        """All output until the end, frames taken apart."""
        loop = asyncio.get_running_loop()
        data = b""
        async with asyncio.timeout(DEADLINE_S):
            while piece := await loop.sock_recv(self._ours, 65536):
                data += piece
        self._ours.close()
        return unframe(data) if self.multiplexed else data.decode()

    async def read_until(self, code: Callable[[], int | None]) -> tuple[int | None, str]:
        output = await self.read()
        return code(), output

    def close(self) -> None:
        self._ours.close()
        if self._theirs.fileno() >= 0:
            self._theirs.close()


def unframe(data: bytes) -> str:
    text = b""
    while data:
        size = int.from_bytes(data[4:8], "big")
        text += data[8 : 8 + size]
        data = data[8 + size :]
    return text.decode()


@contextlib.asynccontextmanager
async def running_rig(folder: Path, tag: str) -> AsyncIterator[Rig]:
    """An engine on `folder`; containers of an earlier one are taken in."""
    root, run = folder / "root", folder / "run"
    for path in (root, run):
        path.mkdir(exist_ok=True)
    store = Store(root / "state.db")
    events = Events()
    images = Images(store, root, run, publish=events.publish)
    networks = Networks(store, events.publish, bridge=tag)
    volumes = Volumes(store, events.publish, root / "volumes")
    shims = Shims(run_dir=run)
    await shims.start()
    await networks.start()
    settings = EngineSettings(root=root, run_dir=run, cgroup_parent=f"/{tag}", bridge=tag)
    services = ContainerServices(
        settings=settings,
        store=store,
        images=images,
        networks=networks,
        volumes=volumes,
        shims=shims,
        events=events,
    )
    await services.start()
    connections = Connections(
        settings=settings,
        store=store,
        roster=services.roster,
        networks=networks,
        resolvers=services.resolvers,
    )
    await connections.start()
    await images.start()
    try:
        await load(images, make_image(folder, "busybox"))
        yield Rig(folder, tag, store, events, images, networks, volumes, services, connections)
    finally:
        await services.close()
        await shims.close()
        await images.close()
        store.close()


async def load(images: Images, archive: Path) -> None:
    try:
        images.get("busybox")
    except NoSuchImage:
        async for _ in images.load(read_file(archive)):
            pass


async def read_file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            yield data


def names(folder: Path) -> Sequence[str]:
    """What is in a folder, that may not be there."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ()
