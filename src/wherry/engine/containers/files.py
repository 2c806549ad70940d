"""Files of a container from outside: `docker cp`, `diff`, `export`.

Running means the live root's descriptor; stopped means a mount of its own in a worker, under the
container's lock, which a start waits for (pitfall 9). Paths are never joined here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from wherry.engine.clock import format_time
from wherry.engine.containers.archive_worker import describe
from wherry.engine.containers.handle import ContainerHandle
from wherry.engine.containers.mounts import MANAGED_FILES
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.processes import open_root
from wherry.engine.containers.seams import ImageSource
from wherry.engine.events import Events
from wherry.engine.images.changes import Change
from wherry.engine.images.pipes import feed_pipe, open_pipe, read_pipe
from wherry.engine.settings import EngineSettings
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_int, get_str
from wherry.lib.program import WorkerError, run_worker
from wherry.model.container import Container
from wherry.model.errors import Conflict, Internal, InvalidArgument, NotFound
from wherry.model.views import PathStat

_WORKER = "wherry.engine.containers.archive_worker"
_DRAINED_BYTES = 1 << 20


class SnapshotReader(ImageSource, Protocol):
    """Images that can also tell what a snapshot changes and give it as an archive."""

    async def changes(self, key: str) -> list[Change]:
        """Sorted by path."""

    def export(self, key: str) -> AsyncIterator[bytes]:
        """Its merged view as a tar."""


class Files:
    """Reads and writes files of containers."""

    def __init__(self, *, settings: EngineSettings, images: SnapshotReader, events: Events) -> None:
        self._settings = settings
        self._events = events
        self._images = images

    async def changes(self, handle: ContainerHandle) -> list[Change]:
        """Sorted by path."""
        return await self._images.changes(handle.id)

    async def export(self, handle: ContainerHandle) -> AsyncIterator[bytes]:
        """The root file system without what is mounted in it."""
        publish_container(self._events, handle.record, "export")
        return self._images.export(handle.id)

    async def stat(self, handle: ContainerHandle, ref: str, path: str) -> PathStat:
        """Raises NotFound, InvalidArgument."""
        _check_path(path)
        async with self._root(handle) as (spec, fd):
            try:
                if fd >= 0:
                    found: JsonValue = await run_blocking(describe, fd, path)
                else:
                    found = await run_worker(f"{_WORKER}:stat_path", {"root": spec, "path": path})
            except (OSError, WorkerError) as exc:
                if exc.errno == errno.ENOTDIR:
                    raise Internal(f"lstat {path}: not a directory") from exc
                raise _path_error(exc, ref, path) from exc
        if not isinstance(found, Mapping):
            raise Internal("the archive worker gave no answer")
        return _read_stat(found)

    async def get(
        self, handle: ContainerHandle, ref: str, path: str
    ) -> tuple[PathStat, AsyncIterator[bytes]]:
        """Raises NotFound before anything is sent."""
        found = await self.stat(handle, ref, path)
        publish_container(self._events, handle.record, "archive-path")
        return found, self._read(handle, ref, path)

    async def _read(self, handle: ContainerHandle, ref: str, path: str) -> AsyncIterator[bytes]:
        async with self._root(handle) as (spec, fd):
            reader, writer = open_pipe()
            arguments: JsonObject = {"root": spec, "path": path, "output": writer}
            fds = [writer, fd] if fd >= 0 else [writer]
            worker = asyncio.ensure_future(
                run_worker(f"{_WORKER}:read_path", arguments, fds=fds, pool="stream")
            )
            worker.add_done_callback(lambda _: os.close(writer))
            try:
                async for data in read_pipe(reader):
                    yield data
                await worker
            except WorkerError as exc:
                raise _path_error(exc, ref, path) from exc
            finally:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)

    async def put(
        self,
        handle: ContainerHandle,
        ref: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        """Raises NotFound, InvalidArgument, Internal."""
        _check_path(path)
        record = handle.record
        if record.host_config.readonly_rootfs and not _on_mount(record, path):
            raise InvalidArgument("container rootfs is marked read-only")
        user = record.config.user.partition(":")[0]
        async with self._root(handle) as (spec, fd):
            reader, writer = open_pipe()
            arguments: JsonObject = {
                "root": spec,
                "path": path,
                "input": reader,
                "no_overwrite_dir_non_dir": no_overwrite_dir_non_dir,
                "owner": int(user) if copy_uid_gid and user.isdecimal() else -1,
            }
            feeding = asyncio.ensure_future(feed_pipe(writer, body))
            try:
                fds = [reader, fd] if fd >= 0 else [reader]
                await run_worker(f"{_WORKER}:write_path", arguments, fds=fds, pool="stream")
            except WorkerError as exc:
                raise _path_error(exc, ref, path) from exc
            finally:
                os.close(reader)
                await asyncio.gather(feeding, return_exceptions=True)
                await _drain(body)
        publish_container(self._events, record, "extract-to-dir")

    @contextlib.asynccontextmanager
    async def _root(self, handle: ContainerHandle) -> AsyncIterator[tuple[JsonObject, int]]:
        """What the worker opens, and the live root's descriptor or -1."""
        fd = -1
        if handle.shim is not None:
            with contextlib.suppress(ProcessLookupError):  # then it is about to be seen as stopped
                fd = open_root(handle.shim)
        if fd >= 0:
            try:
                yield {"fd": fd}, fd
            finally:
                os.close(fd)
            return
        async with handle.lock:
            record = handle.record
            if handle.shim is not None:
                raise Conflict(f"container {record.id} has just ended")
            teardown = handle.teardown
            if teardown is not None:
                await asyncio.shield(teardown)
            root = self._images.root_mount(record.id)
            yield (
                {
                    "lowers": list(root.lowers),
                    "upper": root.upper,
                    "work": root.work,
                    "scratch": str(self._settings.run_dir / "scratch"),
                    "mounts": [
                        {
                            "source": point.source,
                            "destination": point.destination,
                            "writable": point.rw,
                        }
                        for point in record.mount_points
                        if point.type in {"bind", "volume"}
                    ]
                    + self._managed_files(record),
                    "working_dir": (
                        "" if record.state.has_been_started else record.config.working_dir
                    ),
                },
                -1,
            )

    def _managed_files(self, record: Container) -> list[JsonValue]:
        """What a run has mounted; nothing before the first."""
        folder = self._settings.container_dir(record.id)
        return [
            {
                "source": str(folder / name),
                "destination": path,
                "writable": not record.host_config.readonly_rootfs,
            }
            for path, name in MANAGED_FILES.items()
            if record.state.has_been_started
            and not any(point.destination == path for point in record.mount_points)
        ]


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Takes a little more of a refused body: a client that cannot go on sending shows that instead of why."""
    left = _DRAINED_BYTES
    async for piece in body:
        left -= len(piece)
        if left < 0:
            return


def _check_path(path: str) -> None:
    if not path:
        raise InvalidArgument("bad parameter: pathcannot be empty")


def _on_mount(record: Container, path: str) -> bool:
    return any(
        point.rw and (path + "/").startswith(point.destination.rstrip("/") + "/")
        for point in record.mount_points
    )


def _read_stat(found: JsonObject) -> PathStat:
    return PathStat(
        name=get_str(found, "name"),
        size=get_int(found, "size"),
        mode=get_int(found, "mode"),
        mtime=format_time(get_int(found, "mtime_ns")),
        link_target=get_str(found, "link_target"),
    )


def _path_error(
    exc: OSError | WorkerError, ref: str, path: str
) -> NotFound | InvalidArgument | Internal:
    kind = exc.kind if isinstance(exc, WorkerError) else "OSError"
    if kind == "NotFolder":
        return InvalidArgument("extraction point is not a directory")
    if exc.errno == errno.ENOENT:
        return NotFound(f"Could not find the file {path} in container {ref}")
    if exc.errno == errno.EROFS:
        return InvalidArgument("mounted volume is marked read-only")
    return Internal(str(exc))
