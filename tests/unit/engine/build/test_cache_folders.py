"""The folders of cache mounts, while somebody looks at all of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.build.instructions.run_mount import RunMount
from wherry.engine.build.mounts import CacheFolders, StepMounts

Walk = Iterator[tuple[str, list[str], list[str]]]
LAST = "f" * 32


@pytest.fixture
def walking(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Set when the walk of the last folder has begun; to be set for it to go on."""
    begun, go = threading.Event(), threading.Event()
    walk = os.walk

    def held(top: Path) -> Walk:
        if Path(top).name == LAST:
            begun.set()
            assert go.wait(60)
        return walk(top)

    monkeypatch.setattr("wherry.engine.build.mounts.os.walk", held)
    return begun, go


async def take(folders: CacheFolders, scratch: Path) -> StepMounts:
    prepared = StepMounts()
    mount = RunMount(type="cache", target="/c", id="one", sharing="shared")
    await folders.take(mount, prepared, scratch / "new", None)
    return prepared


def test_a_folder_that_is_taken_while_others_are_measured_is_in_use(
    tmp_path: Path, walking: tuple[threading.Event, threading.Event]
) -> None:
    begun, go = walking

    async def story() -> None:
        folders = CacheFolders(tmp_path)
        (await take(folders, tmp_path)).release()
        (folders.folder / LAST).mkdir()
        looking = asyncio.create_task(folders.items())
        assert await asyncio.to_thread(begun.wait, 60)
        # A prune that did not know would take it away beneath the step.
        prepared = await take(folders, tmp_path)
        go.set()
        assert [item.in_use for item in await looking] == [True, False]
        prepared.release()
        assert [item.in_use for item in await folders.items()] == [False, False]

    asyncio.run(story())


def test_a_folder_that_goes_while_it_is_measured(
    tmp_path: Path, walking: tuple[threading.Event, threading.Event]
) -> None:
    begun, go = walking

    async def story() -> None:
        folders = CacheFolders(tmp_path)
        path = folders.folder / LAST
        path.mkdir()
        looking = asyncio.create_task(folders.items())
        assert await asyncio.to_thread(begun.wait, 60)
        await asyncio.to_thread(path.rename, tmp_path / "trash")
        go.set()
        assert await looking == []

    asyncio.run(story())
