"""Builds the services around containers from what they stand on, in the order that they need each other.

Used by `daemon.wiring` and by tests; knows no options and no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from wherry.engine.containers.attach import Attachments
from wherry.engine.containers.create import Creator
from wherry.engine.containers.files import Files, SnapshotReader
from wherry.engine.containers.handle import Roster
from wherry.engine.containers.health import HealthChecks
from wherry.engine.containers.lifecycle import Lifecycle
from wherry.engine.containers.listing import Listing
from wherry.engine.containers.logs import Logs
from wherry.engine.containers.remove import Discarder, Remover
from wherry.engine.containers.seams import Launcher, NetworkAttacher
from wherry.engine.containers.service import Containers
from wherry.engine.containers.stats import Statistics
from wherry.engine.containers.stop import Stopper
from wherry.engine.containers.update import Updater
from wherry.engine.events import Events
from wherry.engine.execs import Execs
from wherry.engine.images import ImageUser
from wherry.engine.resolvers import Names, Resolvers
from wherry.engine.restore import Restore, RestoredNetworks, RestoredVolumes
from wherry.engine.settings import EngineSettings
from wherry.engine.store import Store
from wherry.engine.tasks import Tasks
from wherry.lib.blocking import run_blocking
from wherry.model.image import ImageId
from wherry.runtime.cgroups import cgroup_version

logger = logging.getLogger(__name__)

_CHECKPOINT_INTERVAL_S = 30.0


class Networking(NetworkAttacher, RestoredNetworks, Names, Protocol):
    """Networks as containers and start-up need them."""


class ContainerServices:
    """Containers, execs and what keeps them true. `start` once, before the API listens; then `close`."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        images: SnapshotReader,
        networks: Networking,
        volumes: RestoredVolumes,
        shims: Launcher,
        events: Events,
    ) -> None:
        """Opens the records; nothing runs yet. Needs a running event loop."""
        self._store = store
        self._tasks = Tasks("store")
        self.cgroup_version = cgroup_version()
        self.roster = roster = Roster(store)
        self._health = HealthChecks(roster=roster, events=events)
        self.resolvers = Resolvers(networks, settings.dns)
        self._discarder = Discarder(
            settings=settings,
            store=store,
            roster=roster,
            images=images,
            volumes=volumes,
            events=events,
        )
        self._lifecycle = Lifecycle(
            settings=settings,
            roster=roster,
            images=images,
            networks=networks,
            volumes=volumes,
            shims=shims,
            events=events,
            health=self._health,
            resolvers=self.resolvers,
            discard=self._discarder.discard,
        )
        self._stopper = Stopper(
            settings=settings, roster=roster, lifecycle=self._lifecycle, events=events
        )
        logs = Logs(settings=settings)
        self._attachments = Attachments(events=events, logs=logs)
        self.containers = Containers(
            settings=settings,
            roster=roster,
            events=events,
            creator=Creator(
                settings=settings,
                store=store,
                roster=roster,
                images=images,
                networks=networks,
                volumes=volumes,
                launcher=shims,
                events=events,
                cgroup_version=self.cgroup_version,
            ),
            lifecycle=self._lifecycle,
            stopper=self._stopper,
            remover=Remover(
                roster=roster,
                stopper=self._stopper,
                discarder=self._discarder,
                images=images,
                events=events,
            ),
            updater=Updater(settings=settings, roster=roster, networks=networks, events=events),
            attachments=self._attachments,
            logs=logs,
            listing=Listing(settings=settings, roster=roster, images=images),
            statistics=Statistics(settings=settings),
            files=Files(settings=settings, images=images, events=events),
        )
        self.execs = Execs(settings=settings, store=store, roster=roster, events=events)
        self._health.use(self.execs.probe)
        self._restore = Restore(
            settings=settings,
            store=store,
            roster=roster,
            images=images,
            networks=networks,
            volumes=volumes,
            shims=shims,
            lifecycle=self._lifecycle,
            discarder=self._discarder,
            execs=self.execs,
        )

    async def start(self) -> None:
        """Takes in what an earlier engine left; after networks and shims have started."""
        await self._restore.run()
        self._tasks.spawn(self._keep_checkpointed(), "checkpoint")

    async def close(self) -> None:
        """Ends everything here; containers go on."""
        await self._restore.close()
        await self._health.close()
        await self._stopper.close()
        await self._lifecycle.close()
        await self.resolvers.close()
        await self._discarder.close()
        await self.execs.close()
        await self._tasks.close()
        self._attachments.close()

    async def _keep_checkpointed(self) -> None:
        # The loop's own connection never checkpoints: that syncs (pitfall 18).
        while True:
            await asyncio.sleep(_CHECKPOINT_INTERVAL_S)
            await run_blocking(self._store.checkpoint)

    def users_of_image(self, image_id: ImageId) -> Sequence[ImageUser]:
        """For `Images.set_users`: the containers that are made from an image or have it mounted."""
        return [
            ImageUser(
                container_id=handle.id,
                running=handle.record.state.pid > 0,
            )
            for handle in self.roster
            if handle.record.image_id == image_id
            or any(
                point.type == "image" and point.source == image_id
                for point in handle.record.mount_points
            )
        ]
