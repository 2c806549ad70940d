"""`docker create`: checks the request, completes it from the image, makes what the container needs, stores it.

All or nothing: what is made before the record is stored is named in the journal first, so that the
next start-up removes it when the engine dies in between (`engine.restore`).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.engine.clock import now
from wherry.engine.containers.emulation import platform_warnings
from wherry.engine.containers.handle import Roster
from wherry.engine.containers.host_side import cgroup_parent
from wherry.engine.containers.links import pin_links
from wherry.engine.containers.merge import merge_config, split_command
from wherry.engine.containers.mount_points import MountPlan, VolumeRequest, find_mount, plan_mounts
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.populate import needs_copy, populate_volume
from wherry.engine.containers.resources import (
    Machine,
    check_resources,
    read_machine,
    set_swap_default,
)
from wherry.engine.containers.seams import ImageSource, Launcher, NetworkAttacher, VolumeSource
from wherry.engine.containers.security import (
    masked_paths,
    parse_security_options,
    readonly_paths,
)
from wherry.engine.containers.validate import CreateRequest, check_name, check_request
from wherry.engine.events import Events
from wherry.engine.names import build_name
from wherry.engine.settings import DEFAULT_DRIVER, EngineSettings
from wherry.engine.store import Store, Table
from wherry.lib.blocking import run_blocking
from wherry.lib.cleanpath import clean_path
from wherry.lib.ids import new_id, short_id
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    EndpointConfig,
    HostConfig,
    LogConfig,
    MountPoint,
)
from wherry.model.errors import EngineError, InvalidArgument, NotFound
from wherry.model.image import Image, Platform, RootMount

logger = logging.getLogger(__name__)

_MAC_IS_OLD = (
    "The container-wide MacAddress field is now deprecated. "
    "It should be specified in EndpointsConfig instead."
)
_IMAGE_MOUNT = "Image mount is an experimental feature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A container that is being made or removed: what goes with it when the engine ends in the middle."""

    id: str
    anonymous_volumes: tuple[str, ...] = ()


class Creator:
    """Makes containers."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        roster: Roster,
        images: ImageSource,
        networks: NetworkAttacher,
        volumes: VolumeSource,
        launcher: Launcher,
        events: Events,
        cgroup_version: int,
    ) -> None:
        self._settings = settings
        self._journal = Table(store, "unfinished_containers", Unfinished)
        self._store = store
        self._roster = roster
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._launcher = launcher
        self._events = events
        self._cgroup_version = cgroup_version
        self._machine: Machine = read_machine()

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        host_config: HostConfig,
        networks: Mapping[str, EndpointConfig],
        platform: Platform | None = None,
    ) -> tuple[ContainerId, tuple[str, ...]]:
        """Answers the id and warnings. Raises InvalidArgument, NameInUse, NoSuchImage and more."""
        if name:
            name = check_name(name)
        if host_config.network_mode in {"", "default"}:
            host_config = replace(host_config, network_mode="bridge")
        networks = {("bridge" if key == "default" else key): end for key, end in networks.items()}
        request = CreateRequest(
            config=config,
            host_config=host_config,
            networks=networks,
            runtimes=frozenset(self._settings.runtimes),
        )
        warnings = check_request(request)
        checked, more = check_resources(host_config, self._machine)
        host_config = checked if isinstance(checked, HostConfig) else host_config
        warnings += more
        if config.mac_address:
            warnings.append(_MAC_IS_OLD)
        warnings += [_IMAGE_MOUNT for mount in host_config.mounts if mount.type == "image"][:1]
        image = self._images.get(config.image, platform) if config.image else None
        if image is not None and not image.is_host:
            warnings += platform_warnings(image.platform, platform)
        config = merge_config(config, image.config if image is not None else None)
        parent = cgroup_parent(self._settings, host_config)
        reserved = self._launcher.reserve_id(parent, host_config.network_mode)
        identity = ContainerId(reserved or new_id())
        if not name:
            name = build_name(self._roster.is_taken)
        self._roster.reserve(name, identity)
        try:
            await self._make(identity, name, config, host_config, networks, image)
        except BaseException:
            self._roster.give_back(name, identity)
            raise
        return identity, tuple(warnings)

    async def _make(
        self,
        identity: ContainerId,
        name: str,
        config: ContainerConfig,
        host_config: HostConfig,
        networks: Mapping[str, EndpointConfig],
        image: Image | None,
    ) -> None:
        endpoints = complete_networks(config, host_config, networks, self._network_name)
        config = self._complete_config(identity, config, host_config)
        host_config = self._complete_host_config(host_config)
        self._check_donors(host_config)
        if not _is_user_defined(host_config.network_mode):  # else they are the resolver's business
            host_config = pin_links(self._roster, host_config)
        plan = plan_mounts(
            config,
            host_config,
            lambda ref: self._roster.get(ref).record,
            self._settings.root,
        )
        await self._check_bind_sources(host_config)
        for network, endpoint in endpoints.items():
            self._networks.check_config(network, endpoint, naming=True)
        path, args = split_command(config)
        record = Container(
            id=identity,
            name=name,
            created=now(),
            image_id=image.id if image is not None else "",
            image_ref=config.image,
            driver=self._settings.storage_driver or DEFAULT_DRIVER,
            path=path,
            args=args,
            config=config,
            host_config=host_config,
            networks=endpoints,
            mount_points=plan.points,
        )
        if plan.volumes:
            self._journal.put(identity, Unfinished(id=identity, anonymous_volumes=plan.anonymous))
        try:
            root = await self._images.create_snapshot(
                image, identity, volatile=host_config.auto_remove
            )
            record = replace(record, mount_points=await self._make_volumes(record, plan, root))
            with self._store.transaction():
                self._roster.add(record)
                if plan.volumes:
                    self._journal.delete(identity)
        except BaseException:
            await self._undo(identity, plan)
            raise
        publish_container(self._events, record, "create")

    async def _undo(self, identity: ContainerId, plan: MountPlan) -> None:
        for volume in plan.volumes:
            self._volumes.release(volume.name, identity)
        for name in plan.anonymous:
            try:
                await self._volumes.remove(name, force=True)
            except EngineError as exc:
                logger.warning("remove volume %s of a failed create: %s", name, exc)
        await self._images.remove_snapshot(identity)
        self._journal.delete(identity)

    def _complete_config(
        self, identity: ContainerId, config: ContainerConfig, host_config: HostConfig
    ) -> ContainerConfig:
        directory = clean_path(config.working_dir) if config.working_dir else ""
        config = replace(config, working_dir=directory, mac_address="")
        if config.hostname:
            return config
        if host_config.network_mode == "host":
            return replace(config, hostname=socket.gethostname())
        return replace(config, hostname=short_id(identity))

    def _complete_host_config(self, host_config: HostConfig) -> HostConfig:
        settings = self._settings
        options = parse_security_options(host_config.security_opt)
        cgroupns = settings.default_cgroupns_mode or (
            "host" if self._cgroup_version == 1 or host_config.privileged else "private"
        )
        return replace(
            set_swap_default(host_config),
            network_mode=self._pin_donor(host_config.network_mode),
            pid_mode=self._pin_donor(host_config.pid_mode),
            shm_size=host_config.shm_size or settings.default_shm_size,
            ipc_mode=self._pin_donor(host_config.ipc_mode) or settings.default_ipc_mode,
            cgroupns_mode=host_config.cgroupns_mode or cgroupns,
            runtime=host_config.runtime or settings.default_runtime,
            oom_kill_disable=(
                host_config.oom_kill_disable
                if host_config.oom_kill_disable is not None or self._cgroup_version == 2
                else False
            ),
            log_config=_complete_log(host_config.log_config, settings.default_log),
            restart_policy=replace(
                host_config.restart_policy, name=host_config.restart_policy.name or "no"
            ),
            security_opt=host_config.security_opt or _default_security(host_config),
            masked_paths=(None if host_config.privileged else masked_paths(host_config, options)),
            readonly_paths=(
                None if host_config.privileged else readonly_paths(host_config, options)
            ),
        )

    def _pin_donor(self, mode: str) -> str:
        """`container:NAME` by id, which a new name does not change."""
        kind, _, ref = mode.partition(":")
        donor = self._roster.find(ref) if kind == "container" and ref else None
        return f"container:{donor.id}" if donor is not None else mode

    def _network_name(self, ref: str) -> str:
        """The name of a network that is there; what is not is found missing at the start."""
        try:
            return self._networks.get(ref).name
        except NotFound:
            return ref

    def _check_donors(self, host_config: HostConfig) -> None:
        for mode in (host_config.ipc_mode, host_config.pid_mode):
            kind, _, ref = mode.partition(":")
            if kind == "container" and ref and self._roster.find(ref) is None:
                raise InvalidArgument(f"No such container: {ref}")

    async def _check_bind_sources(self, host_config: HostConfig) -> None:
        """`--mount type=bind` wants its source to be there; `-v` makes a directory at the start."""
        for mount in host_config.mounts:
            if mount.type != "bind" or (
                mount.bind_options is not None and mount.bind_options.create_mountpoint
            ):
                continue
            if not await run_blocking(Path(mount.source).exists):
                raise InvalidArgument(
                    'invalid mount config for type "bind": '
                    f"bind source path does not exist: {mount.source}"
                )

    async def _make_volumes(
        self, record: Container, plan: MountPlan, root: RootMount
    ) -> tuple[MountPoint, ...]:
        requests = {volume.destination: volume for volume in plan.volumes}
        points: list[MountPoint] = []
        for point in plan.points:
            request = requests.get(point.destination)
            if request is not None and point.type == "volume":
                point = await self._make_volume(record, point, request, root)  # noqa: PLW2901
            if point.type == "volume":
                self._volumes.acquire(point.name, record.id)
            if point.type == "image":
                mounted = self._images.get(point.name)
                point = replace(point, source=mounted.id)  # noqa: PLW2901
            points.append(point)
        return tuple(points)

    async def _make_volume(
        self, record: Container, point: MountPoint, request: VolumeRequest, root: RootMount
    ) -> MountPoint:
        options = request.options
        try:
            volume = await self._volumes.ensure(
                request.name,
                driver=options.driver_name or "local",
                options=dict(options.driver_options) or None,
                labels=dict(options.labels) or None,
                anonymous=request.anonymous,
            )
        except NotFound as exc:
            raise InvalidArgument(str(exc)) from exc
        self._volumes.acquire(volume.name, record.id)
        mount = find_mount(record.host_config, point.destination)
        subpath = (
            mount.volume_options.subpath
            if mount is not None and mount.volume_options is not None
            else ""
        )
        if request.copies:
            await self._volumes.mount(volume.name)
            place = (point.destination, volume.mountpoint, subpath)
            if await run_blocking(needs_copy, root.lowers, *place):
                await populate_volume(root, *place)
            await self._volumes.unmount(volume.name, lambda: self._roster.runs_with(volume.name))
        return replace(point, source=volume.mountpoint)


def _default_security(host_config: HostConfig) -> tuple[str, ...]:
    """SELinux labels would be in the way of what reaches out of its namespaces (moby GenerateSecurityOpt)."""
    reaches_out = host_config.privileged or "host" in {host_config.ipc_mode, host_config.pid_mode}
    return ("label=disable",) if reaches_out else ()


def _complete_log(wanted: LogConfig, default: LogConfig) -> LogConfig:
    """The engine's driver where none is named; its options belong to its driver."""
    if wanted.type not in {"", default.type}:
        return wanted
    return LogConfig(type=default.type, config={**default.config, **wanted.config})


def complete_networks(
    config: ContainerConfig,
    host_config: HostConfig,
    networks: Mapping[str, EndpointConfig],
    find_name: Callable[[str], str],
) -> dict[str, EndpointConfig]:
    """The networks by name. Who names networks gets those; the one of the mode is for who does not.

    Raises InvalidArgument for two MAC addresses of one endpoint.
    """
    mode = host_config.network_mode
    if mode.startswith("container:") or config.network_disabled:
        return {}
    main = find_name(mode)
    asked = {find_name(name): endpoint for name, endpoint in networks.items()}
    if not asked:
        asked = {main: EndpointConfig()}
    mac = config.mac_address
    if mac and mode not in {"host", "none"}:
        endpoint = asked.get(main, EndpointConfig())
        if endpoint.mac_address not in {"", mac}:
            raise InvalidArgument(
                "the container-wide MAC address must match the endpoint-specific MAC address "
                "for the main network, or be left empty"
            )
        asked[main] = replace(endpoint, mac_address=mac)
    if host_config.links and main in asked and _is_user_defined(mode):
        endpoint = asked[main]
        asked[main] = replace(endpoint, links=(*endpoint.links, *host_config.links))
    first = {main: asked.pop(main)} if main in asked else {}
    return {**first, **asked}


def _is_user_defined(network_mode: str) -> bool:
    return network_mode not in {"bridge", "host", "none"} and not network_mode.startswith(
        "container:"
    )
