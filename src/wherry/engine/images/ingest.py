"""A blob on its way in: the worker that follows the partial file, and how to talk to it (`LayerIngest`)."""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
from collections.abc import Callable
from pathlib import Path

from wherry.engine.images.worker import run_image_worker
from wherry.image.content import BadContent, remove_tree
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonValue, get_str
from wherry.lib.program import WorkerPool

_ABORT_GRACE_S = 1.0


class Ingest:
    """See `wherry.engine.ingest.LayerIngest`."""

    def __init__(
        self,
        arguments: dict[str, JsonValue],
        partial: Path,
        on_progress: Callable[[int], None] | None,
        on_done: Callable[[JsonValue], None],
        workers: WorkerPool,
    ) -> None:
        self._partial = partial
        self._layers = Path(get_str(arguments, "layers"))
        self._token = f"{secrets.token_hex(8)}-"
        self._on_progress = on_progress
        self._on_done = on_done
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._reader, True)
        self._available = 0
        self._task = asyncio.ensure_future(
            run_image_worker(
                "wherry.image.layer.build:ingest",
                # A kept worker inherits nothing, but can open what is ours.
                {
                    **arguments,
                    "control": f"/proc/{os.getpid()}/fd/{self._reader}",
                    "token": self._token,
                },
                workers=workers,
                on_progress=self._progress,
            )
        )
        self._task.add_done_callback(lambda _: self._close_reader())

    def advance(self, available: int) -> None:
        """See LayerIngest."""
        if available <= self._available or self._writer < 0:
            return
        self._available = available
        try:
            os.write(self._writer, struct.pack("=Q", available))
        except BlockingIOError:
            pass  # the worker is far behind; `finish` says the last number again
        except BrokenPipeError:
            pass  # it has ended; `finish` tells why

    async def finish(self) -> None:
        """See LayerIngest."""
        try:
            await self._say_final()
            # A cancelled caller calls `abort`, which ends the worker gently.
            self._on_done(await asyncio.shield(self._task))
        except BadContent:
            self._partial.unlink(missing_ok=True)
            raise
        finally:
            self._close_writer()

    async def abort(self) -> None:
        """See LayerIngest."""
        # The worker sees the end of the pipe, removes what it made and ends; one that is busy (syncing) is killed.
        self._close_writer()
        ended, _ = await asyncio.wait([self._task], timeout=_ABORT_GRACE_S)
        if not ended:
            self._task.cancel()
            await asyncio.wait([self._task])
            await run_blocking(self._remove_leftovers)
        if not self._task.cancelled():
            self._task.exception()  # seen, so that it is not reported as lost

    def _remove_leftovers(self) -> None:
        for folder in self._layers.glob(f".new-{self._token}*"):
            remove_tree(folder)

    async def _say_final(self) -> None:
        try:
            message = struct.pack("=Q", self._partial.stat().st_size)
        except FileNotFoundError:
            return  # the worker had all of it, and has made it the blob
        while not self._task.done():
            try:
                os.write(self._writer, message)
            except BlockingIOError:
                await asyncio.wait([self._task], timeout=0.05)  # the pipe is full of older numbers
            except BrokenPipeError:
                return
            else:
                return

    def _progress(self, value: JsonValue) -> None:
        if self._on_progress is not None and isinstance(value, int):
            self._on_progress(value)

    def _close_writer(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def _close_reader(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1
