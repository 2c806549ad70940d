"""The container service: what the API (and later the CRI) may ask of containers, and nothing of how.

Every `ref` is a name, an id or a unique prefix of one. Everything raises the kinds of
`wherry.model.errors`. Each verb lives in a module of its own beside this one; this class only
composes them, so that a caller depends on one narrow object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from wherry.engine.containers.attach import Attachments
from wherry.engine.containers.create import Creator
from wherry.engine.containers.files import Files
from wherry.engine.containers.handle import Roster
from wherry.engine.containers.lifecycle import Lifecycle
from wherry.engine.containers.listing import Listing
from wherry.engine.containers.logs import Logs
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.remove import Remover
from wherry.engine.containers.requests import (
    AttachOptions,
    LogOptions,
    LogStream,
    WaitCondition,
)
from wherry.engine.containers.stats import Statistics
from wherry.engine.containers.stop import Stopper
from wherry.engine.containers.top import list_processes
from wherry.engine.containers.update import Updater
from wherry.engine.containers.wait import Waiter, begin_wait, hand_over_spare
from wherry.engine.events import Events
from wherry.engine.filters import Filters
from wherry.engine.images.changes import Change
from wherry.engine.settings import EngineSettings
from wherry.engine.streams import Hijack
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    EndpointConfig,
    HostConfig,
    Resources,
    RestartPolicy,
)
from wherry.model.image import Platform
from wherry.model.views import (
    ContainerDetails,
    ContainerStats,
    ContainerSummary,
    PathStat,
    ProcessTable,
    PruneReport,
)


class Containers:
    """One per engine; built by `daemon.wiring` from the parts it composes."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        roster: Roster,
        events: Events,
        creator: Creator,
        lifecycle: Lifecycle,
        stopper: Stopper,
        remover: Remover,
        updater: Updater,
        attachments: Attachments,
        logs: Logs,
        listing: Listing,
        statistics: Statistics,
        files: Files,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._events = events
        self._creator = creator
        self._lifecycle = lifecycle
        self._stopper = stopper
        self._remover = remover
        self._updater = updater
        self._attachments = attachments
        self._logs = logs
        self._listing = listing
        self._statistics = statistics
        self._files = files

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        host_config: HostConfig,
        networks: Mapping[str, EndpointConfig],
        platform: Platform | None = None,
    ) -> tuple[ContainerId, tuple[str, ...]]:
        """Makes a container; answers its id and warnings. An empty name is generated. All or nothing."""
        return await self._creator.create(name, config, host_config, networks, platform)

    async def start(self, ref: str) -> None:
        """Returns when the program has been exec'd. NotModified when it runs already."""
        await self._lifecycle.start(self._roster.get(ref))

    async def stop(self, ref: str, signal: str | None = None, timeout_s: int | None = None) -> None:
        """Signal, wait, KILL. NotModified when it does not run. Goes on when the caller is cancelled."""
        await self._stopper.stop(ref, signal, timeout_s)

    async def restart(
        self, ref: str, signal: str | None = None, timeout_s: int | None = None
    ) -> None:
        """Stop when it runs, then start."""
        await self._stopper.restart(ref, signal, timeout_s)

    async def kill(self, ref: str, signal: str = "") -> None:
        """Sends a signal (KILL by default); waits for the end only after KILL."""
        await self._stopper.kill(ref, signal)

    async def pause(self, ref: str) -> None:
        """Freezes all its processes."""
        await self._stopper.pause(self._roster.get(ref))

    async def unpause(self, ref: str) -> None:
        """Lets a paused container go on."""
        await self._stopper.unpause(self._roster.get(ref))

    async def rename(self, ref: str, name: str) -> None:
        """Gives it another name."""
        await self._updater.rename(self._roster.get(ref), name)

    async def update(
        self, ref: str, resources: Resources, restart_policy: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Changes limits and restart policy, of a running one too; answers warnings."""
        return await self._updater.update(self._roster.get(ref), resources, restart_policy)

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        """Sets the size of its terminal."""
        await self._updater.resize(self._roster.get(ref), rows, columns)

    async def remove(
        self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Removes it; `force` kills first, `volumes` takes its anonymous volumes along."""
        await self._remover.remove(ref, force=force, volumes=volumes, link=link)

    async def prune(self, filters: Filters) -> PruneReport:
        """Removes all stopped containers that match."""
        return await self._remover.prune(filters)

    def get(self, ref: str) -> Container:
        """The record as it is now."""
        return self._roster.get(ref).record

    async def inspect(self, ref: str, *, size: bool = False) -> ContainerDetails:
        """The record and what belongs to it."""
        return await self._listing.inspect(self._roster.get(ref), size=size)

    async def list_all(
        self, *, all_: bool = False, limit: int = 0, size: bool = False, filters: Filters
    ) -> list[ContainerSummary]:
        """Newest first; running ones only unless `all_`, a limit or a status filter says otherwise."""
        return await self._listing.list_all(all_=all_, limit=limit, size=size, filters=filters)

    async def begin_wait(
        self, ref: str, condition: WaitCondition, spare: int | None = None
    ) -> Waiter:
        """Registers a waiter at once; `await waiter.result()` answers, `waiter.close()` gives up.

        `spare` is a duplicate of the client's connection, owned from here on: a shim completes the
        chunked answer there when the engine is gone by then (pitfall 14).
        """
        handle = self._roster.get(ref)
        waiter = begin_wait(handle, condition, spare)
        await hand_over_spare(waiter, handle.shim)
        return waiter

    async def attach(self, ref: str, options: AttachOptions, hijack: Hijack) -> None:
        """Checks, hijacks, hands the connection to the shim (or keeps it for the start); returns then."""
        await self._attachments.attach(self._roster.get(ref), options, hijack)

    async def logs(self, ref: str, options: LogOptions) -> LogStream:
        """The log, framed; headers can be sent as soon as this returns."""
        return await self._logs.logs(self._roster.get(ref), options)

    async def top(self, ref: str, ps_args: str) -> ProcessTable:
        """Its processes, as `ps` of this machine shows them."""
        handle = self._roster.get(ref)
        table = await list_processes(self._settings, handle, ps_args)
        publish_container(self._events, handle.record, "top")
        return table

    def stats(
        self, ref: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[ContainerStats]:
        """A sample per second, or a single one. Raises NotFound at once."""
        return self._statistics.stats(self._roster.get(ref), stream=stream, one_shot=one_shot)

    async def changes(self, ref: str) -> list[Change]:
        """What differs from the image."""
        return await self._files.changes(self._roster.get(ref))

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Its root file system as a tar stream."""
        return await self._files.export(self._roster.get(ref))

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        """Looks at a path inside, links not followed in the last part."""
        return await self._files.stat(self._roster.get(ref), ref, path)

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """A path inside as a tar stream."""
        return await self._files.get(self._roster.get(ref), ref, path)

    async def archive_put(
        self,
        ref: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        """Unpacks a tar stream (plain or compressed) into a directory inside."""
        await self._files.put(
            self._roster.get(ref),
            ref,
            path,
            body,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            copy_uid_gid=copy_uid_gid,
        )
