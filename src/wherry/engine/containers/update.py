"""Changing a container that exists: its name, its limits, its restart policy, its terminal's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from wherry.engine.containers import state
from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.host_side import cgroup_path
from wherry.engine.containers.notices import publish_container
from wherry.engine.containers.resources import (
    build_resources,
    check_resources,
    read_machine,
)
from wherry.engine.containers.restart_policy import check_restart_policy, is_restarting_policy
from wherry.engine.containers.seams import NetworkAttacher
from wherry.engine.containers.validate import NAME
from wherry.engine.dnsnames import rename_endpoint
from wherry.engine.events import Events
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import ShimGone
from wherry.lib.blocking import run_blocking
from wherry.model.container import HostConfig, Resources, RestartPolicy, Status
from wherry.model.errors import (
    Conflict,
    ContainerNotRunning,
    EngineError,
    Internal,
    InvalidArgument,
)
from wherry.runtime.cgroups import open_cgroup
from wherry.runtime.errors import SpecError, StepError
from wherry.runtime.spec import parse_resources

_NEVER_UPDATED = frozenset(
    {"devices", "device_cgroup_rules", "ulimits", "cgroup_parent", "oom_kill_disable"}
)


class Updater:
    """Renames, updates, resizes."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        roster: Roster,
        networks: NetworkAttacher,
        events: Events,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._networks = networks
        self._events = events
        self._machine = read_machine()

    async def rename(self, handle: ContainerHandle, name: str) -> None:
        """Raises InvalidArgument, Conflict."""
        name = name.removeprefix("/")
        if not name:
            raise InvalidArgument("Neither old nor new names may be empty")
        async with handle.lock:
            record = handle.record
            if name == record.name:
                raise InvalidArgument("Renaming a container with the same name as its current name")
            if not NAME.match(name):
                raise InvalidArgument(
                    f"Error when allocating new name: Invalid container name (/{name}), "
                    "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                )
            try:
                renamed = replace(record, name=name)
                endpoints = {
                    network: rename_endpoint(renamed, endpoint)
                    for network, endpoint in record.endpoints.items()
                }
                self._roster.rename(handle, replace(renamed, endpoints=endpoints))
            except Conflict as exc:
                raise Conflict(f"Error when allocating new name: {exc}") from exc
            self._networks.rename_member(handle.record)
        publish_container(self._events, handle.record, "rename", {"oldName": f"/{record.name}"})

    async def update(
        self, handle: ContainerHandle, resources: Resources, restart_policy: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Raises InvalidArgument, Conflict; nothing is changed then."""
        if restart_policy is not None and restart_policy.name:
            check_restart_policy(restart_policy)
        resources, warnings = check_resources(resources, self._machine, update=True)
        async with handle.lock:
            record = handle.record
            try:
                host_config = _merge(record.host_config, resources, restart_policy)
            except EngineError as exc:
                raise Conflict(f"Cannot update container {handle.id}: {exc}") from exc
            if handle.removing or record.state.status in {Status.REMOVING, Status.DEAD}:
                raise Conflict(
                    f"Cannot update container {handle.id}: "
                    'Container is marked for removal and cannot be "update".'
                )
            if record.state.status in state.ALIVE:
                await self._apply(handle, host_config)
            self._roster.replace(handle, replace(handle.record, host_config=host_config))
        publish_container(self._events, handle.record, "update")
        return tuple(warnings)

    async def _apply(self, handle: ContainerHandle, host_config: HostConfig) -> None:
        document = build_resources(host_config, ())
        try:
            cgroup = open_cgroup(cgroup_path(self._settings, handle.record))
            await run_blocking(cgroup.update, parse_resources(document))
        except (OSError, SpecError, StepError) as exc:
            raise Internal(f"Cannot update container {handle.id}: {exc}") from exc

    async def resize(self, handle: ContainerHandle, rows: int, columns: int) -> None:
        """Raises ContainerNotRunning. Does nothing without a terminal."""
        shim = handle.shim
        if shim is None:
            raise ContainerNotRunning(handle.id)
        try:
            await shim.resize(rows, columns)
        except ShimGone as exc:
            raise ContainerNotRunning(handle.id) from exc
        publish_container(
            self._events,
            handle.record,
            "resize",
            {"height": str(rows), "width": str(columns)},
        )


def _merge(
    present: HostConfig, resources: Resources, restart_policy: RestartPolicy | None
) -> HostConfig:
    """What is given replaces what is (moby container_unix.go UpdateContainer). Raises Conflict."""
    changes: dict[str, object] = {}
    for item in fields(Resources):
        value = getattr(resources, item.name)
        if item.name not in _NEVER_UPDATED and value not in (0, None, "", ()):
            changes[item.name] = value
    if resources.pids_limit is not None:
        changes["pids_limit"] = resources.pids_limit
    if resources.nano_cpus and (present.cpu_period or present.cpu_quota):
        raise Conflict(
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
            if present.nano_cpus
            else "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
        )
    if present.nano_cpus and not resources.nano_cpus:
        if resources.cpu_period:
            raise Conflict(
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
            )
        if resources.cpu_quota:
            raise Conflict(
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
            )
    memory = resources.memory
    if memory and not resources.memory_swap and 0 <= present.memory_swap < memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, "
            "update the memoryswap at the same time"
        )
    if restart_policy is not None and restart_policy.name:
        if present.auto_remove and is_restarting_policy(restart_policy):
            raise Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        changes["restart_policy"] = restart_policy
    return _replace(present, changes)


def _replace(present: HostConfig, changes: Mapping[str, object]) -> HostConfig:
    merged: HostConfig = replace(present, **changes)  # type: ignore[arg-type] # values come from the same record type
    return merged
