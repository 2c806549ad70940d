"""Removing containers: `docker rm`, `--rm`, prune.

The record and the name go in one transaction, with the event and the answers to waiters; the files go after,
and start-up sweeps what a crash leaves of them (`engine.restore`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wherry.engine.clock import parse_time
from wherry.engine.containers import state
from wherry.engine.containers.attach import take_clients
from wherry.engine.containers.create import Unfinished
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.links import drop_link
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.seams import ImageSource, VolumeSource
from wherry.engine.containers.stop import Stopper
from wherry.engine.containers.wait import answer_removal
from wherry.engine.events import Events
from wherry.engine.filters import Filters, check_filters, match_labels, parse_until
from wherry.engine.settings import EngineSettings
from wherry.engine.store import Store, Table
from wherry.engine.tasks import Tasks
from wherry.lib.blocking import run_blocking
from wherry.model.container import Container, Status
from wherry.model.errors import (
    Conflict,
    EngineError,
    Internal,
    NoSuchContainer,
    NoSuchVolume,
)
from wherry.model.views import PruneReport, WaitResult

logger = logging.getLogger(__name__)

_PRUNE_FILTERS = ("label", "label!", "until")
_REFUSALS = {
    Status.RUNNING: "container is running: stop the container before removing or force remove",
    Status.PAUSED: "container is paused and must be unpaused first",
    Status.RESTARTING: (
        "container is restarting: stop the container before removing or force remove"
    ),
}


class Discarder:
    """Takes an ended container away; the part of a removal that `--rm` shares with `docker rm`."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        roster: Roster,
        images: ImageSource,
        volumes: VolumeSource,
        events: Events,
    ) -> None:
        self._settings = settings
        self._journal = Table(store, "unfinished_containers", Unfinished)
        self._roster = roster
        self._images = images
        self._volumes = volumes
        self._events = events
        self._tasks = Tasks("removals")

    async def close(self) -> None:
        """Waits for removals in progress."""
        await self._tasks.close()

    async def discard(
        self, handle: ContainerHandle, ref: str = "", *, volumes: bool = True
    ) -> None:
        """Removes a container that does not run. Raises Conflict, about `ref`."""
        await self._tasks.finish(
            self._discard(handle, ref or handle.id, volumes=volumes), f"remove {handle.id}"
        )

    async def _discard(self, handle: ContainerHandle, ref: str, *, volumes: bool) -> None:
        async with handle.lock:
            if handle.removing:
                raise Conflict(f"removal of container {ref} is already in progress")
            status = handle.record.state.status
            if status in state.ACTIVE:
                raise Conflict(f'cannot remove container "{ref}": {_REFUSALS[status]}')
            handle.removing = True
            for client in take_clients(handle):
                os.close(client.fd)
            if handle.restart_task is not None:
                handle.restart_task.cancel()
            record = handle.record
            for point in record.mount_points:
                if point.type == "volume":
                    self._volumes.release(point.name, record.id)
            doomed = self._anonymous_volumes(record) if volumes else ()
            try:
                await self._forget(handle, doomed)
            except BaseException:
                handle.removing = False
                raise
        trash = await self._move_away(record.id)
        if doomed:
            await _await_teardown(handle)
            await self._remove_volumes(record.id, doomed)
        publish_container(self._events, record, "destroy")
        answer_removal(handle, WaitResult(exit_code=record.state.exit_code))
        await _await_teardown(handle)
        await _empty(trash)

    async def _forget(self, handle: ContainerHandle, doomed: Sequence[str]) -> None:
        """Deletes the record; where the disk is too full for that, after what frees space: the container's files."""

        def note() -> None:
            if doomed:
                unfinished = Unfinished(id=handle.id, anonymous_volumes=tuple(doomed))
                self._journal.put(handle.id, unfinished)

        try:
            self._roster.forget(handle, note)
        except Internal as exc:
            logger.warning("remove container %s, its files first: %s", handle.id, exc)
            await _await_teardown(handle)
            await _empty(self._set_aside(handle.id))
            self._roster.forget(handle, note)

    def _anonymous_volumes(self, record: Container) -> list[str]:
        return [
            point.name
            for point in record.mount_points
            if point.type == "volume" and self._is_anonymous(point.name)
        ]

    def _is_anonymous(self, name: str) -> bool:
        try:
            return self._volumes.get(name).anonymous
        except NoSuchVolume:
            return False

    async def _remove_volumes(self, container_id: str, names: Sequence[str]) -> None:
        for name in names:
            try:
                await self._volumes.remove(name)
            except EngineError as exc:
                logger.info("volume %s stays: %s", name, exc)
        try:
            self._journal.delete(container_id)
        except Internal as exc:
            logger.warning("forget what was removed with container %s: %s", container_id, exc)

    async def remove_files(self, container_id: str) -> None:
        """Snapshot, log and managed files. Idempotent."""
        await _empty(await self._move_away(container_id))

    async def _move_away(self, container_id: str) -> Path:
        trash = self._set_aside(container_id)
        await self._images.remove_snapshot(container_id)
        return trash

    def _set_aside(self, container_id: str) -> Path:
        """Out of sight at once, though still mounted perhaps; start-up empties ROOT/tmp."""
        trash = self._settings.root / "tmp" / f"removed-{container_id}"
        try:
            os.rename(self._settings.container_dir(container_id), trash)
        except FileNotFoundError:
            pass  # removed already
        except OSError as exc:
            logger.warning("move the files of container %s away: %s", container_id, exc)
        return trash


class Remover:
    """`docker rm` and `docker container prune`."""

    def __init__(
        self,
        *,
        roster: Roster,
        stopper: Stopper,
        discarder: Discarder,
        images: ImageSource,
        events: Events,
    ) -> None:
        self._roster = roster
        self._stopper = stopper
        self._discarder = discarder
        self._images = images
        self._events = events

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        """Raises NoSuchContainer, Conflict."""
        if link:
            await self._remove_link(ref)
            return
        handle = self._roster.get(ref)
        if force:
            await self._stopper.kill_hard(handle)
        try:
            await self._discarder.discard(handle, ref, volumes=volumes)
        except NoSuchContainer:
            if not force:
                raise

    async def _remove_link(self, ref: str) -> None:
        """`container/alias`: the container forgets its link of that name at its next start."""
        parent, _, alias = ref.strip("/").rpartition("/")
        if not parent:
            self._roster.get(ref)
            raise Internal("Conflict, cannot remove the default link name of the container")
        handle = self._roster.get(parent)
        async with handle.lock:
            record = handle.record
            host_config = drop_link(record, alias)
            if host_config is None:
                raise NoSuchContainer(ref)
            self._roster.replace(handle, replace(record, host_config=host_config))

    async def prune(self, filters: Filters) -> PruneReport:
        """Raises InvalidFilter, InvalidArgument."""
        check_filters(filters, _PRUNE_FILTERS)
        until_ns = parse_until(filters)
        deleted: list[str] = []
        reclaimed = 0
        for handle in self._roster:
            record = handle.record
            if record.state.status in state.ACTIVE or record.state.starting or handle.removing:
                continue
            if until_ns and parse_time(record.created) > until_ns:
                continue
            if not match_labels(filters.get("label", ()), record.config.labels):
                continue
            unwanted = filters.get("label!", ())
            if unwanted and match_labels(unwanted, record.config.labels):
                continue
            size = await self._images.snapshot_usage(record.id)
            try:
                await self._discarder.discard(handle, record.id, volumes=False)
            except Conflict as exc:
                logger.info("prune passes over container %s: %s", record.id, exc)
                continue
            deleted.append(record.id)
            reclaimed += size
        self._events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
        return PruneReport(deleted=tuple(deleted), reclaimed_bytes=reclaimed)


async def _await_teardown(handle: ContainerHandle) -> None:
    if handle.teardown is not None:
        await asyncio.shield(handle.teardown)


async def _empty(trash: Path) -> None:
    try:
        await run_blocking(_remove_tree, trash)
    except OSError as exc:
        logger.warning("remove %s: %s", trash, exc)


def _remove_tree(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
