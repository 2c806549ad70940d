"""Waiters: who is answered by an end, who by a removal, and what becomes of their spares."""

import asyncio
import os

import pytest

from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.requests import WaitCondition
from wherry.engine.containers.wait import answer_end, answer_removal, begin_wait
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    ContainerState,
    HostConfig,
    Status,
)
from wherry.model.views import WaitResult


def handle_in(status: Status, exit_code: int = 0) -> ContainerHandle:
    return ContainerHandle(
        Container(
            id=ContainerId("a" * 64),
            name="box",
            created="",
            image_id="",
            image_ref="",
            config=ContainerConfig(),
            host_config=HostConfig(),
            state=ContainerState(status=status, exit_code=exit_code),
        )
    )


@pytest.mark.parametrize(
    ("status", "condition", "at_once"),
    [
        (Status.CREATED, "not-running", True),
        (Status.EXITED, "not-running", True),
        (Status.RUNNING, "not-running", False),
        (Status.RESTARTING, "not-running", False),
        (Status.EXITED, "next-exit", False),
        (Status.EXITED, "removed", False),
    ],
)
def test_conditions_that_are_met(status: Status, condition: WaitCondition, at_once: bool) -> None:
    async def story() -> None:
        handle = handle_in(status, exit_code=3)
        waiter = begin_wait(handle, condition)
        assert (waiter not in handle.waiters) is at_once
        if at_once:
            assert await waiter.result() == WaitResult(exit_code=3)
        waiter.close()
        assert handle.waiters == []

    asyncio.run(story())


def test_an_end_does_not_answer_who_waits_for_the_removal() -> None:
    async def story() -> None:
        handle = handle_in(Status.RUNNING)
        end, removal = begin_wait(handle, "next-exit"), begin_wait(handle, "removed")
        answer_end(handle, WaitResult(exit_code=1))
        assert await end.result() == WaitResult(exit_code=1)
        assert handle.waiters == [removal]
        answer_removal(handle, WaitResult(exit_code=2))
        assert await removal.result() == WaitResult(exit_code=2)

    asyncio.run(story())


def test_a_spare_that_no_shim_took_is_closed() -> None:
    async def story() -> None:
        reader, writer = os.pipe()
        waiter = begin_wait(handle_in(Status.RUNNING), "next-exit", writer)
        waiter.close()
        assert os.read(reader, 1) == b""
        os.close(reader)

    asyncio.run(story())
