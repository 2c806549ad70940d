"""The socket before an ssh agent, as a step sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from wherry.build.instructions.run_mount import RunMount
from wherry.build.plan import SCRATCH, RunStep
from wherry.engine.build.agents import prepare_agents
from wherry.engine.build.mounts import StepMounts

LIST, LOCK = b"\0\0\0\1\x0b", b"\0\0\0\1\x16"
EMPTY, FAILURE = b"\0\0\0\5\x0c\0\0\0\0", b"\0\0\0\1\5"
STEP = RunStep(
    name="RUN",
    created_by="RUN",
    start=1,
    end=1,
    state=SCRATCH,
    argv=("true",),
    env=(),
    mounts=(RunMount(type="ssh"),),
)


async def connections_ended() -> None:
    """Each is a task of its server."""
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})


def test_a_step_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 10):
            writer.write(EMPTY)
        writer.close()

    async def main() -> None:
        prepared = StepMounts()
        agent = await asyncio.start_unix_server(answer, tmp_path / "agent")
        await prepare_agents(
            STEP, {"default": str(tmp_path / "agent")}, tmp_path / "step", prepared
        )
        place = tmp_path / "step" / "0"
        used = [await asyncio.open_unix_connection(place) for _ in range(64)]
        for reader, writer in used:
            writer.write(LIST)
            assert await reader.readexactly(len(EMPTY)) == EMPTY
            writer.write(LOCK)
            assert await reader.readexactly(len(FAILURE)) == FAILURE
        refused, one_more = await asyncio.open_unix_connection(place)
        assert await refused.read() == b""
        one_more.close()
        for _, writer in used:
            writer.close()
        await connections_ended()
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(LIST)
        assert await reader.readexactly(len(EMPTY)) == EMPTY
        writer.close()
        prepared.release()
        agent.close()
        await connections_ended()

    asyncio.run(main())
