"""Whose turn it is to take a free subnet: engines of one network namespace must not choose the same one at once."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

DEADLINE_S = 5.0
_POLL_S = 0.005

logger = logging.getLogger(__name__)


@asynccontextmanager
async def subnet_turn() -> AsyncIterator[None]:
    """Held from a look at the routes until the chosen subnet has a route of its own.

    The lock is flock(2) on the network namespace itself (nsfs, namespaces(7)): it reaches exactly those who share
    its routes, whatever their files are, and leaves nothing behind. Any process of the namespace can hold it, also
    one in a container with the host's network, so after `DEADLINE_S` seconds one goes on without.
    """
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not await _lock(namespace):
            logger.warning("choosing a subnet: another process holds the network namespace's lock")
        yield
    finally:
        os.close(namespace)


async def _lock(fd: int) -> bool:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        else:
            return True
