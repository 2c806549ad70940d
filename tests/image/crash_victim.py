"""A program for test_crash.py: uses the image service without end, until it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from wherry.engine.images import Images
from wherry.engine.store import Store
from wherry.model.container import ContainerConfig
from wherry.model.errors import EngineError


async def read_pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 16):
            yield piece


async def main() -> None:
    folder, archive, driver = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    store = Store(folder / "root/state.db")
    images = Images(store, folder / "root", folder / "run", driver=driver)
    await images.start()
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    number = 0
    while True:
        number += 1
        async for _ in images.load(read_pieces(archive)):
            pass
        key = f"c{number}"
        await images.create_snapshot(images.get("crash:1"), key)
        (folder / f"root/containers/{key}/upper/new").write_text(str(number))
        await images.commit(
            key, config=ContainerConfig(cmd=("x",)), repository="made", tag=str(number % 3)
        )
        await images.remove_snapshot(key)
        with contextlib.suppress(EngineError):
            await images.remove("crash:1", force=True)
        if number % 2:
            await images.prune({"dangling": ["false"]})


asyncio.run(main())
