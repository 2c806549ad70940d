"""Which slots are reserved and dropped, with shims that only say that they are ready."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.engine import slots as module
from wherry.engine.slots import Hint, SlotClass, Slots
from wherry.engine.spawner import SpawnerLost
from wherry.shim.protocol import Channel

HINT = Hint("/p", "bridge")
CLASS = SlotClass("/p", {})


class Shims:
    """What the spawner would fork: each answers its order, and ends when it is told to."""

    def __init__(self) -> None:
        self.channels: list[Channel] = []

    def fork(self, control_fd: int, *, is_brief: bool) -> None:
        assert not is_brief
        channel = Channel(socket.socket(fileno=control_fd))
        self.channels.append(channel)
        asyncio.get_running_loop().add_reader(control_fd, self._answer, channel)

    def _answer(self, channel: Channel) -> None:
        message = channel.receive()
        if message is not None:
            message.close()
            channel.send({"event": "ready"})
            return
        asyncio.get_running_loop().remove_reader(channel.fileno())
        channel.close()


async def nothing() -> None:
    """No control group is made here."""


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what counts as a start that is still to be expected."""
    monkeypatch.setattr(module, "_bury", lambda _: None)
    monkeypatch.setattr(module, "warm_cgroups", nothing)
    monkeypatch.setattr(module, "_FILL_DELAY_S", 0.0)
    return lambda seconds: monkeypatch.setattr(module, "_CREATE_DELAY_S", seconds)


async def fill(slots: Slots) -> None:
    slots.learn(HINT, CLASS)
    while slots.ready < slots.count:
        slots.begin_start()
        slots.end_start()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("is_awaited", [True, False])
def test_a_reservation_whose_start_is_expected_stays(
    tmp_path: Path, delays: Callable[[float], None], *, is_awaited: bool
) -> None:
    delays(3600.0 if is_awaited else 0.0)

    async def scene() -> None:
        slots = Slots(2, tmp_path, Shims().fork)
        slots.sweep()
        await fill(slots)
        first, second = slots.reserve(HINT), slots.reserve(HINT)
        assert first is not None
        assert second is not None
        await fill(slots)
        third = slots.reserve(HINT)
        assert (third is None) == is_awaited
        assert slots.is_reserved(first) == is_awaited
        assert slots.is_reserved(second)
        await slots.close()
        assert not list((tmp_path / "slots").iterdir())

    asyncio.run(scene())


def test_a_slot_that_nobody_could_fork_leaves_no_folder(
    tmp_path: Path, delays: Callable[[float], None]
) -> None:
    del delays
    asked = asyncio.Event()

    def fork(control_fd: int, *, is_brief: bool) -> None:
        del is_brief
        socket.socket(fileno=control_fd).close()
        asked.set()
        raise SpawnerLost

    async def scene() -> None:
        slots = Slots(1, tmp_path, fork)
        slots.sweep()
        slots.learn(HINT, CLASS)
        slots.begin_start()
        slots.end_start()
        await asked.wait()
        assert not list((tmp_path / "slots").iterdir())
        await slots.close()

    asyncio.run(scene())
