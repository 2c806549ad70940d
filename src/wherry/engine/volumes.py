"""Named volumes: records, and which containers use them.

A use is a container's mount point of that name, running or not, as in Docker; it is counted in memory and
taken in again from the containers' records at start-up.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from wherry.engine.networks import PublishEvent
from wherry.engine.store import Store, Table
from wherry.model.errors import (
    Conflict,
    EngineError,
    Internal,
    InvalidArgument,
    NoSuchVolume,
    NotFound,
)
from wherry.model.volume import Volume
from wherry.volume.local import LocalVolumes
from wherry.volume.mounted import MountFailed, check_options, mount_volume, unmount_volume

logger = logging.getLogger(__name__)

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


class Volumes:
    """The service."""

    def __init__(self, store: Store, publish_event: PublishEvent, root: Path) -> None:
        """`root` is ROOT/volumes."""
        self._table = Table(store, "volumes", Volume)
        self._publish_event = publish_event
        self._local = LocalVolumes(root)
        self._records = dict(self._table.items())
        self._users: dict[str, set[str]] = {}
        self._mounting = asyncio.Lock()

    async def ensure(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Volume:
        """The volume of that name, made if needed; an anonymous one for "", or when told so.

        Raises InvalidArgument, NotFound (driver), Conflict (other driver), Internal.
        """
        anonymous = anonymous or not name
        name = name or secrets.token_hex(32)
        if len(name) < 2:
            raise InvalidArgument(
                f"create {name}: volume name is too short, "
                "names should be at least two alphanumeric characters"
            )
        if not NAME.match(name):
            raise InvalidArgument(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
                "use absolute path"
            )
        if driver not in {"", "local"}:
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
            )
        present = self._records.get(name)
        if present is not None:
            return present
        try:
            check_options(options or {})
        except InvalidArgument as exc:
            raise InvalidArgument(f"create {name}: {exc}") from exc
        try:
            path = await asyncio.to_thread(self._local.make, name)
        except OSError as exc:
            raise Internal(f"create volume {name}: {exc.strerror}") from exc
        shown = dict(labels) if labels is not None else None
        if anonymous:
            shown = {"com.docker.volume.anonymous": "", **(shown or {})}
        volume = Volume(
            name=name,
            mountpoint=str(path),
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            labels=shown,
            options=options,
            anonymous=anonymous,
        )
        self._table.put(name, volume)
        self._records[name] = volume
        self._emit(volume, "create", {"driver": volume.driver})
        return volume

    def get(self, name: str) -> Volume:
        """Raises NoSuchVolume."""
        try:
            return self._records[name]
        except KeyError:
            raise NoSuchVolume(name) from None

    def list_all(self) -> list[Volume]:
        """All volumes by name."""
        return [self._records[name] for name in sorted(self._records)]

    def users(self, name: str) -> frozenset[str]:
        """Ids of the containers that use it."""
        return frozenset(self._users.get(name, ()))

    def acquire(self, name: str, container_id: str) -> None:
        """Notes that a container uses the volume; idempotent."""
        self._users.setdefault(name, set()).add(container_id)

    def release(self, name: str, container_id: str) -> None:
        """Notes that it does no longer; idempotent."""
        holders = self._users.get(name)
        if holders is not None:
            holders.discard(container_id)
            if not holders:
                del self._users[name]

    async def mount(self, name: str) -> None:
        """Before a run: what the volume's options name is mounted on its directory; idempotent. Raises Internal."""
        volume = self._records.get(name)
        if volume is None or not volume.options:
            return
        async with self._mounting:
            try:
                await asyncio.to_thread(mount_volume, Path(volume.mountpoint), volume.options)
            except MountFailed as exc:
                raise Internal(
                    f"error while mounting volume '{volume.mountpoint}': "
                    f"failed to mount local volume: {exc}"
                ) from exc

    async def unmount(self, name: str, is_used: Callable[[], bool]) -> None:
        """After a run, unless another one has the volume; idempotent."""
        volume = self._records.get(name)
        if volume is None or not volume.options:
            return
        async with self._mounting:
            if not is_used():
                try:
                    await asyncio.to_thread(unmount_volume, Path(volume.mountpoint))
                except OSError as exc:
                    logger.warning("unmount volume %s: %s", name, exc)

    async def size(self, name: str) -> int:
        """Bytes in the volume."""
        return await asyncio.to_thread(self._local.size, name)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Raises NoSuchVolume (not with force), Conflict while a container uses it."""
        if name not in self._records and force:
            return
        volume = self.get(name)
        holders = sorted(self._users.get(name, ()))
        if holders:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(holders)}]")
        try:
            if volume.options:  # before anything below it is deleted
                await asyncio.to_thread(unmount_volume, Path(volume.mountpoint))
            await asyncio.to_thread(self._local.empty, name)
            self._table.delete(name)
            self._records.pop(name, None)
            self._local.forget(name)
        except OSError as exc:
            raise Internal(f"remove volume {name}: {exc.filename}: {exc.strerror}") from exc
        self._emit(volume, "destroy", {"driver": volume.driver})

    async def prune(
        self, matches: Callable[[Volume], bool], *, all_: bool
    ) -> tuple[list[str], int]:
        """Removes unused volumes (anonymous ones unless `all_`); returns names and bytes."""
        names: list[str] = []
        reclaimed = 0
        for volume in self.list_all():
            if self._users.get(volume.name) or not matches(volume):
                continue
            if not (volume.anonymous or all_):
                continue
            reclaimed += await self.size(volume.name)
            await self.remove(volume.name)
            names.append(volume.name)
        self._publish_event("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return names, reclaimed

    def restore(self, uses: Iterable[tuple[str, str]]) -> None:
        """Takes in (volume name, container id) of all containers."""
        for name, container_id in uses:
            self.acquire(name, container_id)

    async def repair(self) -> None:
        """Ends what an engine that was killed had begun: removals and creations. Before the first request."""
        for name in self._local.half_removed():
            logger.info("ending the removal of volume %s", name)
            try:
                await self.remove(name)
            except NoSuchVolume:
                self._local.forget(name)
            except EngineError as exc:
                logger.warning("%s", exc)
        await asyncio.to_thread(self._local.remove_strays, frozenset(self._records))

    def _emit(self, volume: Volume, action: str, attributes: Mapping[str, str]) -> None:
        self._publish_event("volume", action, volume.name, attributes)
