"""The sockets of a container's resolver: served on the loop, and given up at any moment of their start."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
import uvloop

from wherry.engine.resolvers import Resolvers
from wherry.model.container import Container, ContainerConfig, ContainerId, HostConfig

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
DEADLINE_S = 60.0


class NoNames:
    """A container on no network."""

    def find_addresses(self, container_id: str, name: str) -> None:
        return None

    def find_name(self, container_id: str, address: str) -> str:
        return ""

    def may_leave(self, container_id: str) -> bool:
        return False


def open_sockets() -> list[int]:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    streams = socket.socket()
    for opened in (datagrams, streams):
        opened.bind(("127.0.0.1", 0))
    streams.listen()
    return [datagrams.detach(), streams.detach()]


def is_open(fd: int, inode: int) -> bool:
    try:
        return os.fstat(fd).st_ino == inode
    except OSError:
        return False


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("rounds", range(8))
def test_a_container_that_ends_while_its_resolver_starts(loop: str, rounds: int) -> None:
    """Its sockets are closed, and the next ones of the same number are heard."""
    make_loop: Callable[[], asyncio.AbstractEventLoop] = LOOPS[loop]

    async def story() -> None:
        resolvers = Resolvers(NoNames())
        container = Container(
            id=ContainerId("c" * 64),
            name="c",
            created="",
            image_id="",
            image_ref="",
            path="",
            args=(),
            config=ContainerConfig(),
            host_config=HostConfig(),
        )
        sockets = open_sockets()
        inodes = [os.fstat(fd).st_ino for fd in sockets]
        resolvers.serve(container, sockets)
        for _ in range(rounds):
            await asyncio.sleep(0)
        resolvers.stop(container.id)
        async with asyncio.timeout(DEADLINE_S):
            while any(map(is_open, sockets, inodes)):
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    ours.setblocking(False)
                    theirs.send(b"heard")
                    heard = asyncio.get_running_loop().create_future()
                    asyncio.get_running_loop().add_reader(ours, heard.set_result, None)
                    await heard
                    asyncio.get_running_loop().remove_reader(ours)
                await asyncio.sleep(0)
        await resolvers.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(story())
