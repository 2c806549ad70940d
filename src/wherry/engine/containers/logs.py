"""`docker logs`: a container's log read back, framed for the client, followed while it runs."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable

from wherry.engine.clock import parse_time
from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.log_options import log_path
from wherry.engine.containers.requests import LogOptions, LogStream
from wherry.engine.containers.state import ALIVE
from wherry.engine.containers.wait import Waiter, begin_wait
from wherry.engine.settings import EngineSettings
from wherry.lib.blocking import run_blocking
from wherry.logs.codec import LogEntry
from wherry.logs.reader import LogReader, render_entry
from wherry.model.container import Status
from wherry.model.errors import InvalidArgument, NotSupported

_STREAM_TYPES = {"stdout": 1, "stderr": 2}
_BATCH = 1000
_YOUNG_S = 0.15


class Logs:
    """Reads logs."""

    def __init__(self, *, settings: EngineSettings) -> None:
        self._settings = settings

    async def logs(self, handle: ContainerHandle, options: LogOptions) -> LogStream:
        """Raises InvalidArgument, NotSupported before anything is sent."""
        if not options.stdout and not options.stderr:
            raise InvalidArgument("Bad parameters: you must choose at least one stream")
        record = handle.record
        if record.host_config.log_config.type == "none":
            raise NotSupported("configured logging driver does not support reading")
        if not options.follow:
            await _let_begin(handle)
        follow = options.follow and record.state.status in ALIVE
        # The waiter first: an end between the last read and the wait must not be missed.
        ended = begin_wait(handle, "next-exit") if follow else None
        reader = await run_blocking(
            LogReader,
            str(log_path(self._settings, record)),
            tail=None if options.tail < 0 else options.tail,
            since_ns=options.since_ns,
            until_ns=options.until_ns,
            follow=follow,
        )
        multiplexed = not record.config.tty
        frames = _read_frames(reader, options, ended, multiplexed=multiplexed)
        return LogStream(multiplexed=multiplexed, frames=frames)

    async def send(self, connection: socket.socket, data: bytes) -> None:
        """Sends to a non-blocking connection; to one that is gone nothing."""
        try:
            await asyncio.get_running_loop().sock_sendall(connection, data)
        except ConnectionError:
            return


async def _let_begin(handle: ContainerHandle) -> None:
    """Gives a program that has just been started the time that it has with slower engines.

    `docker run -d` and `docker logs` at once is what scripts and test suites do with programs that print a line and end;
    with dockerd they have ended before the start is answered.
    """
    state = handle.record.state
    if state.status is not Status.RUNNING:
        return
    age_s = (time.time_ns() - parse_time(state.started_at)) / 1e9
    if 0 <= age_s < _YOUNG_S:
        ended = asyncio.ensure_future(begin_wait(handle, "next-exit").result())
        await asyncio.wait((ended,), timeout=_YOUNG_S - age_s)
        ended.cancel()


async def _read_frames(
    reader: LogReader, options: LogOptions, ended: Waiter | None, *, multiplexed: bool
) -> AsyncIterator[bytes]:
    wanted = {
        name for name, chosen in (("stdout", options.stdout), ("stderr", options.stderr)) if chosen
    }
    end = asyncio.ensure_future(ended.result()) if ended is not None else None
    try:
        while True:
            over = end is None or end.done()
            entries = await run_blocking(reader.read, _BATCH)
            if entries:
                if data := _frame(entries, options, wanted, multiplexed=multiplexed):
                    yield data
                continue
            if over or reader.done or end is None:
                return
            if not await _wait_for_more(reader, end, options.until_ns):
                return
    finally:
        if end is not None:
            end.cancel()
        reader.close()


async def _wait_for_more(
    reader: LogReader, end: asyncio.Future[object] | asyncio.Task[object], until_ns: int
) -> bool:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(reader.fileno(), readable.set)
    more = asyncio.ensure_future(readable.wait())
    timeout_s = max(0.0, (until_ns - time.time_ns()) / 1e9) if until_ns else None
    try:
        done, _ = await asyncio.wait(
            (more, end), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        more.cancel()
        loop.remove_reader(reader.fileno())
    return bool(done)


def _frame(
    entries: Iterable[LogEntry], options: LogOptions, wanted: set[str], *, multiplexed: bool
) -> bytes:
    parts: list[bytes] = []
    for entry in entries:
        if entry.stream not in wanted:
            continue
        text = render_entry(entry, timestamps=options.timestamps, details=options.details)
        if multiplexed:
            kind = _STREAM_TYPES[entry.stream]
            parts.append(bytes((kind, 0, 0, 0)) + len(text).to_bytes(4, "big"))
        parts.append(text)
    return b"".join(parts)
