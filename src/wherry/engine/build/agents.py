"""`RUN --mount=type=ssh`: a socket of the step's own before each agent, with the owner and mode that the mount asks for.

The agent's own socket is not bound into the step: its owner is not the step's user, and must not be changed. As in
BuildKit a step may list keys and have data signed; it can neither add, remove nor lock keys of the user's agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from wherry.build.instructions.run_mount import RunMount
from wherry.build.plan import RunStep
from wherry.engine.build.mounts import StepMounts, absolute, bind
from wherry.engine.build.records import StepFailed

_TARGET = "/run/buildkit/ssh_agent.{}"
_PIECE = 1 << 16
_MAX_MESSAGE = 256 << 10
_MAX_CONNECTIONS = 64  # of a step's mount: each costs the engine two descriptors
_ALLOWED = frozenset((11, 13))  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_FAILURE = b"\0\0\0\1\5"


async def prepare_agents(
    step: RunStep, agents: Mapping[str, str], folder: Path, prepared: StepMounts
) -> None:
    """Sockets below `folder`, until `prepared` is released. Raises StepFailed."""
    count = 0
    for mount in step.mounts:
        if mount.type != "ssh":
            continue
        agent = agents.get(mount.id or "default")
        if agent is None:
            if mount.required:
                raise StepFailed(f"unset ssh forward key {mount.id or 'default'}")
            continue
        target = absolute(step.cwd, mount.target or _TARGET.format(count))
        path = folder / str(count)
        listener = _listen(path, mount)
        prepared.relays.append((await _serve(listener, agent), path))
        count += 1
        prepared.mounts.append(bind(str(path), target, read_only=False))
        prepared.targets.append(target)
        prepared.env.append(f"SSH_AUTH_SOCK={target}")


def _listen(path: Path, mount: RunMount) -> socket.socket:
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{parent}/{path.name}")  # an address holds 108 bytes
    finally:
        os.close(parent)
    os.chown(path, mount.uid or 0, mount.gid or 0)
    path.chmod(0o600 if mount.mode is None else mount.mode & 0o7777)
    return listener


async def _serve(listener: socket.socket, agent: str) -> asyncio.Server:
    count = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        try:
            if count > _MAX_CONNECTIONS:
                return
            agent_reader, agent_writer = await asyncio.open_unix_connection(agent)
            await asyncio.gather(
                _pass_requests(reader, agent_writer, writer), _pass(agent_reader, writer)
            )
        except OSError:
            pass  # there is no agent any more
        finally:
            count -= 1
            writer.close()

    return await asyncio.start_unix_server(relay, sock=listener)


async def _pass_requests(
    source: asyncio.StreamReader, agent: asyncio.StreamWriter, client: asyncio.StreamWriter
) -> None:
    """Requests that only read go to the agent; the others are answered here."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await source.readexactly(5)
            length = int.from_bytes(head[:4], "big")
            if not 0 < length <= _MAX_MESSAGE:
                break
            rest = await source.readexactly(length - 1)
            target, message = (agent, head + rest) if head[4] in _ALLOWED else (client, _FAILURE)
            target.write(message)
            await target.drain()
    agent.close()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_PIECE):
            target.write(data)
            await target.drain()
    target.close()
