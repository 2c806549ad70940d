"""Start-up: makes the records true again after an engine that ended at any instruction.

Live shims are adopted, exit records taken in, containers that never came to be are removed, networks and
volumes learn who uses them, files of containers that are gone are swept; then `--rm` and restart
policies are obeyed. Every step can be done twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from wherry.engine.containers import state
from wherry.engine.containers.create import Unfinished
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.lifecycle import Lifecycle
from wherry.engine.containers.remove import Discarder
from wherry.engine.containers.restart_policy import starts_with_engine
from wherry.engine.containers.seams import ImageSource, Launcher, VolumeSource
from wherry.engine.execs import Execs
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import ExitRecord, ShimHandle
from wherry.engine.store import Store, Table
from wherry.engine.tasks import Tasks
from wherry.lib.blocking import run_blocking
from wherry.model.container import Container, Status
from wherry.model.errors import EngineError

logger = logging.getLogger(__name__)

_UNKNOWN_END = 255  # as Docker says of containers that were cut off by a reboot
_LOST = 137
_AT_ONCE = 32
_RESTARTS_AT_ONCE = 4


class RestoredNetworks(Protocol):
    """Networks that take in what running containers hold."""

    async def restore(self, containers: Iterable[Container]) -> None:
        """Once, before the first start."""


class RestoredVolumes(VolumeSource, Protocol):
    """Volumes that take in who uses them."""

    def restore(self, uses: Iterable[tuple[str, str]]) -> None:
        """(volume name, container id) of all containers."""

    async def repair(self) -> None:
        """Ends what was half done; after `restore`."""


class Restore:
    """Runs once, before the API listens; `close` ends the starts that go on behind it."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        roster: Roster,
        images: ImageSource,
        networks: RestoredNetworks,
        volumes: RestoredVolumes,
        shims: Launcher,
        lifecycle: Lifecycle,
        discarder: Discarder,
        execs: Execs,
    ) -> None:
        self._settings = settings
        self._journal = Table(store, "unfinished_containers", Unfinished)
        self._roster = roster
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._shims = shims
        self._lifecycle = lifecycle
        self._discarder = discarder
        self._execs = execs
        self._tasks = Tasks("restore")

    async def run(self) -> None:
        """Returns when all records are true; restarts go on in the background."""
        self._volumes.restore(
            (point.name, handle.id)
            for handle in self._roster
            for point in handle.record.mount_points
            if point.type == "volume"
        )
        await self._volumes.repair()
        gate = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(*(self._find(handle, gate) for handle in self._roster))
        live = [handle for handle, shim in found if isinstance(shim, ShimHandle)]
        await self._networks.restore([handle.record for handle in live])
        for handle, shim in found:
            async with handle.lock:
                try:
                    await self._take_in(handle, shim)
                except (EngineError, OSError) as exc:
                    # One container must not keep the engine, and with it all others, from coming up.
                    logger.error("take in container %s: %s", handle.id, exc)
        await self._remove_unfinished()
        await self._sweep()
        self._execs.restored()
        self._tasks.spawn(self._obey_policies(), "restart containers")

    async def close(self) -> None:
        """Ends restarts in progress."""
        await self._tasks.close()

    async def _find(
        self, handle: ContainerHandle, gate: asyncio.Semaphore
    ) -> tuple[ContainerHandle, ShimHandle | ExitRecord | None]:
        record = handle.record
        if record.state.status not in state.ALIVE and not record.state.starting:
            return handle, None
        async with gate:
            try:
                return handle, await self._shims.adopt(record.id, record.state.generation)
            except (OSError, ValueError) as exc:
                logger.warning("find the shim of container %s: %s", record.id, exc)
                error = f"its shim could not be asked: {exc}"
                return handle, ExitRecord(
                    exit_code=_LOST, finished_at_ns=time.time_ns(), error=error
                )

    async def _take_in(
        self, handle: ContainerHandle, found: ShimHandle | ExitRecord | None
    ) -> None:
        record = handle.record
        present = record.state
        if present.starting and present.status not in state.ALIVE:
            if found is None:
                logger.info("container %s had not started when the engine ended", record.id)
                await self._lifecycle.free_unstarted(handle)
                self._roster.replace(
                    handle,
                    state.start_failed(
                        record, exit_code=128, error="the engine ended during the start"
                    ),
                )
                return
            self._lifecycle.enter_found(handle, found)
        if present.status in state.ALIVE or present.starting:
            await self._take_in_run(handle, found)
        elif present.status is Status.RESTARTING:
            await self._lifecycle.cancel_restart(handle)

    async def _take_in_run(
        self, handle: ContainerHandle, found: ShimHandle | ExitRecord | None
    ) -> None:
        if isinstance(found, ShimHandle):
            self._lifecycle.watch(handle, found)
            self._execs.adopt(handle, found)
            return
        if found is None:
            found = ExitRecord(exit_code=_UNKNOWN_END, finished_at_ns=time.time_ns())
        logger.info("container %s ended with %d", handle.id, found.exit_code)
        self._execs.forget_container(handle)
        await self._lifecycle.take_exit_record(handle, found, handle.record.state.generation)

    async def _remove_unfinished(self) -> None:
        for key, unfinished in list(self._journal.items()):
            if self._roster.find(key) is None:
                logger.info("removing container %s, which was never finished", key)
                for name in unfinished.anonymous_volumes:
                    self._volumes.release(name, key)
                    try:
                        await self._volumes.remove(name, force=True)
                    except EngineError as exc:
                        logger.warning("remove volume %s: %s", name, exc)
                await self._discarder.remove_files(key)
            self._journal.delete(key)

    async def _sweep(self) -> None:
        """Files and shims of containers that have no record."""
        known = {handle.id for handle in self._roster}
        for name in await run_blocking(_list_folder, self._settings.root / "containers"):
            if _is_container_id(name) and name not in known:
                logger.info("removing files of container %s, which is gone", name)
                await self._discarder.remove_files(name)
        runs = self._settings.run_dir / "containers"
        for name in await run_blocking(_list_folder, runs):
            if not _is_container_id(name):
                continue
            current = self._generation(name)
            for generation in await run_blocking(_list_folder, runs / name):
                if generation.isdecimal() and int(generation) != current:
                    await self._end_stray(name, int(generation))
            if name not in known:
                await run_blocking(shutil.rmtree, runs / name, ignore_errors=True)

    def _generation(self, container_id: str) -> int:
        handle = self._roster.find(container_id)
        if handle is None or handle.record.state.status not in state.ALIVE:
            return -1
        return handle.record.state.generation

    async def _end_stray(self, container_id: str, generation: int) -> None:
        found = await self._shims.adopt(container_id, generation)
        if isinstance(found, ShimHandle):
            logger.warning("ending a stray run %d of container %s", generation, container_id)
            try:
                found.send_signal(signal.SIGKILL)
            except ProcessLookupError:
                pass
            await found.exited
            await found.release()
        else:
            await self._shims.forget(container_id, generation)

    async def _obey_policies(self) -> None:
        gate = asyncio.Semaphore(_RESTARTS_AT_ONCE)
        await asyncio.gather(*(self._obey_policy(handle, gate) for handle in self._roster))

    async def _obey_policy(self, handle: ContainerHandle, gate: asyncio.Semaphore) -> None:
        record = handle.record
        present = record.state
        if present.status not in {Status.EXITED, Status.CREATED} or handle.restart_task:
            return
        try:
            if record.host_config.auto_remove and present.has_been_started:
                await self._discarder.discard(handle)
            elif present.has_been_started and starts_with_engine(
                record.host_config.restart_policy,
                exit_code=present.exit_code,
                manually_stopped=present.has_been_manually_stopped,
                restart_count=present.restart_count,
            ):
                async with gate:
                    await self._lifecycle.run_again(handle)
        except EngineError as exc:
            logger.warning("container %s after the engine's start: %s", record.id, exc)


def _is_container_id(name: str) -> bool:
    return len(name) == 64 and all(digit in "0123456789abcdef" for digit in name)


def _list_folder(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
