"""Streams between the event loop and workers: pipes that are never read or written blockingly here."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator

_PIPE_SIZE = 1 << 20


def open_pipe() -> tuple[int, int]:
    """(read end, write end), as large as the machine allows up to 1 MiB."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EBUSY}:  # the user's pages are used up
            raise
    return reader, writer


async def feed_pipe(writer: int, stream: AsyncIterator[bytes]) -> None:
    """Copies a stream into a pipe and closes it; a reader that has gone ends the copy, not the engine."""
    os.set_blocking(writer, False)
    try:
        async for piece in stream:
            view = memoryview(piece)
            while view:
                try:
                    view = view[os.write(writer, view) :]
                except BlockingIOError:
                    await _writable(writer)
    except BrokenPipeError:
        pass
    finally:
        os.close(writer)


async def read_pipe(reader: int) -> AsyncIterator[bytes]:
    """What comes out of a pipe, until its end; closes it."""
    os.set_blocking(reader, False)
    try:
        while True:
            try:
                data = os.read(reader, _PIPE_SIZE)
            except BlockingIOError:
                await _readable(reader)
                continue
            if not data:
                return
            yield data
    finally:
        os.close(reader)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
