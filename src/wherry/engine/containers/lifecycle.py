"""A container's run: start, end, and what the restart policy makes of the end.

Theory of operation. A start commits `starting` before anything leaves the engine, then reserves network
values, writes the managed files, builds the specification and gives everything to a shim; the record becomes
`running` in one transaction when the program has been exec'd. The shim's exit record is taken in
in the order of pitfalls 13 and 14: the record first, then addresses and ports are freed, waiters are answered,
and the shim is released (it closes the clients' streams and tears down). The next start of the container
waits for that tear-down. All of it happens under the handle's lock; a client that goes away changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from wherry.engine.clock import format_time, now, parse_time
from wherry.engine.containers import state
from wherry.engine.containers.attach import take_clients
from wherry.engine.containers.devices import container_devices
from wherry.engine.containers.failure import container_failure, missing_command
from wherry.engine.containers.handle import Backoff, ContainerHandle, Roster
from wherry.engine.containers.health import HealthChecks, initial_health
from wherry.engine.containers.host_side import (
    HostSide,
    JoinedNamespaces,
    allow_second_mount,
    cgroup_path,
    has_names,
    read_start_time,
)
from wherry.engine.containers.links import check_links, with_link_environment
from wherry.engine.containers.log_options import log_target
from wherry.engine.containers.notices import (
    publish_container,
    publish_mounts,
    publish_unmounts,
    volumes_of,
)
from wherry.engine.containers.restart_policy import next_start
from wherry.engine.containers.seams import ImageSource, Launcher, NetworkAttacher, VolumeSource
from wherry.engine.containers.spec import SpecInputs, build_spec
from wherry.engine.containers.wait import answer_end, answer_removal
from wherry.engine.endpoints import host_gateway, name_interfaces
from wherry.engine.events import Events
from wherry.engine.resolvers import Resolvers
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import (
    ExitRecord,
    ShimHandle,
    ShimLaunchError,
    ShimRequest,
)
from wherry.engine.tasks import Tasks
from wherry.engine.warm import warm_cgroups
from wherry.model.container import Container, Endpoint, PortBinding, Status
from wherry.model.errors import (
    Conflict,
    EngineError,
    Forbidden,
    Internal,
    InvalidArgument,
    NotFound,
    NotModified,
    StartFailed,
)
from wherry.model.network import InterfaceValues
from wherry.model.views import WaitResult

logger = logging.getLogger(__name__)

Discard = Callable[[ContainerHandle], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connected:
    """What a start has on its networks."""

    endpoints: Mapping[str, Endpoint]
    interfaces: tuple[InterfaceValues, ...]
    ports: Mapping[str, tuple[PortBinding, ...]]


class Lifecycle:
    """Starts containers and takes in their ends."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        roster: Roster,
        images: ImageSource,
        networks: NetworkAttacher,
        volumes: VolumeSource,
        shims: Launcher,
        events: Events,
        health: HealthChecks,
        resolvers: Resolvers,
        discard: Discard,
    ) -> None:
        """`discard` removes an ended container of `--rm`."""
        self._settings = settings
        self._roster = roster
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._shims = shims
        self._events = events
        self._health = health
        self._resolvers = resolvers
        self._discard = discard
        self._host = HostSide(
            settings, roster, lambda: host_gateway(settings, networks.get("bridge"))
        )
        self._tasks = Tasks("containers")
        self._closing = False

    async def close(self) -> None:
        """Stops restarting and watching; containers go on."""
        self._closing = True
        for handle in self._roster:
            if handle.restart_task is not None:
                handle.restart_task.cancel()
        await self._tasks.close()

    async def start(self, handle: ContainerHandle) -> None:
        """Returns when the program has been exec'd. Raises NotModified, Conflict, StartFailed, …"""
        if not self._shims.is_prepared(handle.id):
            self._tasks.spawn(warm_cgroups(), "warm cgroups")
        await self._tasks.finish(self._start(handle), f"start {handle.id}")

    async def _start(self, handle: ContainerHandle) -> None:
        async with handle.lock:
            status = handle.record.state.status
            if status is Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if status in state.ACTIVE:
                raise NotModified(f"container {handle.id} is already running")
            if handle.removing or status in {Status.REMOVING, Status.DEAD}:
                raise Conflict("container is marked for removal and cannot be started")
            check_links(self._roster, handle.record)
            handle.backoff = Backoff()
            await self._run(handle)

    async def _run(self, handle: ContainerHandle) -> None:
        """Under the lock, of a container that does not run."""
        await self.await_teardown(handle)
        self._roster.replace(handle, state.begin_start(handle.record))
        publish_mounts(self._events, handle.record)
        try:
            for point in volumes_of(handle.record):
                await self._volumes.mount(point.name)
            shim = await self._launch(handle)
        except BaseException as exc:
            await self._fail_start(handle, exc)
            raise
        self._enter_running(handle, shim)

    async def _launch(self, handle: ContainerHandle) -> ShimHandle:
        record = handle.record
        if not record.path:
            raise missing_command(record.path)
        connected = await self._connect(record)
        record = replace(record, endpoints=connected.endpoints, ports=connected.ports)
        handle.record = record
        joined = self._host.find_joined(record)
        handle.record = record = self._host.take_names(record)
        try:
            request = await self._build_request(handle, record, joined, connected.interfaces)
            return await self._shims.launch(request)
        except ShimLaunchError as exc:
            raise container_failure(exc) from exc
        finally:
            joined.close()

    async def _build_request(
        self,
        handle: ContainerHandle,
        record: Container,
        joined: JoinedNamespaces,
        interfaces: tuple[InterfaceValues, ...],
    ) -> ShimRequest:
        record = await self._host.prepare(record, joined)
        sources = await self._host.find_sources(record, self._images)
        oci = build_spec(self._spec_inputs(record, joined, sources))
        config = record.config
        stdin: Literal["none", "open", "once"] = "none"
        if config.open_stdin:
            stdin = "once" if config.stdin_once else "open"
        root = self._images.root_mount(record.id)
        if root.volatile:
            allow_second_mount(root)
        clients = take_clients(handle)
        return ShimRequest(
            container_id=record.id,
            generation=record.state.generation,
            oci=oci,
            root=root,
            cgroup_path=cgroup_path(self._settings, record),
            stdin=stdin,
            log=log_target(self._settings, record),
            interfaces=interfaces,
            with_resolver=has_names(record),
            attachments=clients,
            network=record.host_config.network_mode,
            is_brief=record.host_config.auto_remove and bool(clients),  # `run --rm` without -d
            waiters=[spare for waiter in handle.waiters if (spare := waiter.take_spare()) >= 0],
        )

    def _spec_inputs(
        self, record: Container, joined: JoinedNamespaces, sources: Mapping[str, str]
    ) -> SpecInputs:
        devices, rules = container_devices(record.host_config)
        return SpecInputs(
            container=with_link_environment(self._roster, record),
            folder=self._settings.container_dir(record.id),
            cgroup_path=cgroup_path(self._settings, record),
            devices=devices,
            device_rules=rules,
            network_ns=joined.network,
            ipc_ns=joined.ipc,
            pid_ns=joined.pid,
            shm_source=joined.shm,
            sources=sources,
            default_ulimits=self._settings.default_ulimits,
            default_seccomp=self._host.default_seccomp,
            no_new_privileges=self._settings.no_new_privileges,
            has_apparmor=self._host.has_apparmor,
            init_source=self._host.init_program if record.host_config.init else "",
        )

    async def _connect(self, record: Container) -> _Connected:
        endpoints: dict[str, Endpoint] = {}
        interfaces: list[InterfaceValues] = []
        ports: Mapping[str, tuple[PortBinding, ...]] = {}
        if record.config.network_disabled:
            return _Connected(endpoints={}, interfaces=(), ports={})
        try:
            way_out = self._networks.find_gateway(record.networks)
            names = name_interfaces(record.networks, self._networks.get)
            for name, config in record.networks.items():
                endpoint, values = await self._networks.connect(
                    record,
                    name,
                    config,
                    interface=names[name],
                    default_route=name == way_out,
                )
                endpoints[name] = endpoint
                if values is None:
                    continue
                if name == way_out:
                    ports = await self._networks.publish(record, name)
                interfaces.append(values)
        except EngineError as exc:
            await self._disconnect(record)
            raise _networking_failed(exc) from exc
        return _Connected(endpoints=endpoints, interfaces=tuple(interfaces), ports=ports)

    async def _disconnect(self, record: Container) -> None:
        for name in record.networks:
            await self._networks.disconnect(record, name)

    async def free_unstarted(self, handle: ContainerHandle) -> None:
        """What a start that an earlier engine began may hold."""
        await self._disconnect(handle.record)
        self._host.release(handle.record)

    async def _fail_start(self, handle: ContainerHandle, exc: BaseException) -> None:
        record = handle.record
        await self._disconnect(record)
        self._host.release(record)
        await self._unmount_volumes(handle, record)
        exit_code = exc.exit_code if isinstance(exc, StartFailed) else 128
        sentence = str(exc) if isinstance(exc, EngineError) else f"{type(exc).__name__}: {exc}"
        self._roster.replace_anyway(
            handle, state.start_failed(record, exit_code=exit_code, error=sentence)
        )
        for client in take_clients(handle):
            os.close(client.fd)
        if record.host_config.auto_remove and not self._closing:
            self._tasks.spawn(self._discard_ended(handle), f"remove {handle.id}")
        elif record.state.status is Status.RESTARTING:
            answer_end(handle, WaitResult(exit_code=exit_code, error=sentence))

    def _enter_running(self, handle: ContainerHandle, shim: ShimHandle) -> None:
        handle.shim = shim
        record = state.started(
            handle.record,
            pid=shim.pid,
            pid_start_time=read_start_time(shim.pid),
            started_at=now(),
            health=initial_health(handle.record.config),
        )
        self._roster.replace_anyway(handle, record)
        publish_container(self._events, record, "start")
        self.watch(handle, shim)

    def enter_found(self, handle: ContainerHandle, found: ShimHandle | ExitRecord) -> None:
        """An earlier engine ended after the program was exec'd and before it could say so."""
        pid = found.pid if isinstance(found, ShimHandle) else 0
        record = state.started(
            handle.record,
            pid=pid,
            pid_start_time=read_start_time(pid) if pid else 0,
            started_at=now(),
            health=initial_health(handle.record.config),
        )
        self._roster.replace_anyway(handle, record)

    def watch(self, handle: ContainerHandle, shim: ShimHandle) -> None:
        """Takes in the end of a live shim, also of one that an earlier engine started."""
        handle.shim = shim
        self._resolvers.serve(handle.record, shim.resolver)
        shim.on_detach = lambda exec_id: self._note_detach(handle, exec_id)
        shim.exited.add_done_callback(lambda _: self._note_exit(handle, shim))
        self._health.begin(handle)

    def _note_detach(self, handle: ContainerHandle, exec_id: str | None) -> None:
        attributes = {"execID": exec_id} if exec_id else {}
        action = "exec_detach" if exec_id else "detach"
        publish_container(self._events, handle.record, action, attributes)

    def _note_exit(self, handle: ContainerHandle, shim: ShimHandle) -> None:
        if not self._closing and not shim.exited.cancelled():
            self._tasks.promise(self._take_exit(handle, shim), f"end {handle.id}")

    async def _take_exit(self, handle: ContainerHandle, shim: ShimHandle) -> None:
        async with handle.lock:
            if handle.shim is shim:
                await self._end(handle, shim.exited.result(), shim.release)

    async def take_exit_record(
        self, handle: ContainerHandle, record: ExitRecord, generation: int
    ) -> None:
        """The end of a run that no shim of this engine saw, at start-up. Under the lock."""
        await self._end(handle, record, lambda: self._shims.forget(handle.id, generation))

    async def _end(
        self,
        handle: ContainerHandle,
        exit_record: ExitRecord,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        before = handle.record
        exit_code = exit_record.exit_code
        ran_s = max(0.0, (exit_record.finished_at_ns - parse_time(before.state.started_at)) / 1e9)
        delay_s = self._next_start(handle, exit_code, ran_s)
        self._health.end(handle)
        handle.shim = None
        handle.exec_ids.clear()
        record = state.ended(
            handle.record,
            exit_code=exit_code,
            oom_killed=exit_record.oom_killed,
            error=exit_record.error,
            finished_at=format_time(exit_record.finished_at_ns),
            restarting=delay_s is not None,
        )
        self._roster.replace_anyway(handle, record)
        if exit_record.oom_killed:
            publish_container(self._events, record, "oom")
        publish_container(
            self._events,
            record,
            "die",
            {"exitCode": str(exit_code), "execDuration": str(int(ran_s))},
        )
        self._resolvers.stop(handle.id)
        await self._disconnect(before)
        self._host.release(before)
        await self._unmount_volumes(handle, before)
        handle.teardown = self._tasks.promise(_tear_down(handle, release), f"free {handle.id}")
        answer_end(handle, WaitResult(exit_code=exit_code, error=exit_record.error))
        if delay_s is not None:
            handle.restart_task = self._tasks.spawn(
                self._restart_after(handle, delay_s), f"restart {handle.id}"
            )
        elif record.host_config.auto_remove:
            self._tasks.spawn(self._discard_ended(handle), f"remove {handle.id}")

    async def _unmount_volumes(self, handle: ContainerHandle, record: Container) -> None:
        publish_unmounts(self._events, record)
        for point in volumes_of(record):
            await self._volumes.unmount(
                point.name, partial(self._roster.runs_with, point.name, but=handle.id)
            )

    def _next_start(self, handle: ContainerHandle, exit_code: int, ran_s: float) -> float | None:
        record = handle.record
        if self._closing or handle.removing:
            return None
        return next_start(
            record.host_config.restart_policy,
            handle.backoff,
            exit_code=exit_code,
            manually_stopped=record.state.has_been_manually_stopped,
            ran_s=ran_s,
        )

    async def _discard_ended(self, handle: ContainerHandle) -> None:
        try:
            await self._discard(handle)
        except Conflict:
            pass  # someone else removes it
        except EngineError as exc:
            logger.warning("remove container %s: %s", handle.id, exc)
            # Its clients wait for an end that will not come.
            answer_removal(handle, WaitResult(exit_code=handle.record.state.exit_code))

    async def _restart_after(self, handle: ContainerHandle, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        async with handle.lock:
            handle.restart_task = None
            if handle.record.state.status is not Status.RESTARTING or handle.removing:
                return
            try:
                await self._run(handle)
            except EngineError as exc:
                logger.warning("restart container %s: %s", handle.id, exc)

    async def cancel_restart(self, handle: ContainerHandle) -> None:
        """Under the lock: a container between two runs becomes an exited one."""
        if handle.restart_task is not None:
            handle.restart_task.cancel()
            handle.restart_task = None
        if handle.record.state.status is Status.RESTARTING:
            record = state.enter(handle.record, Status.EXITED)
            self._roster.replace_anyway(handle, record)
            answer_end(handle, WaitResult(exit_code=record.state.exit_code))

    async def run_again(self, handle: ContainerHandle) -> None:
        """Starts at the engine's start-up what the policy wants to run."""
        async with handle.lock:
            if handle.record.state.status not in state.ALIVE and not handle.removing:
                await self._run(handle)

    async def await_teardown(self, handle: ContainerHandle) -> None:
        """Returns when nothing of the last run is left (pitfall 13)."""
        teardown = handle.teardown
        if teardown is not None:
            await asyncio.shield(teardown)

    def send_signal(self, handle: ContainerHandle, number: int) -> None:
        """To the container's init, with the event. Raises ContainerNotRunning."""
        shim = handle.shim
        if shim is None:
            return
        try:
            shim.send_signal(number)
        except ProcessLookupError:
            return  # it has ended, its record is on the way
        publish_container(self._events, handle.record, "kill", {"signal": str(number)})


async def _tear_down(handle: ContainerHandle, release: Callable[[], Awaitable[None]]) -> None:
    try:
        await release()
    finally:
        handle.teardown = None


def _networking_failed(exc: EngineError) -> EngineError:
    sentence = f"failed to set up container networking: {exc}"
    for kind in (NotFound, Conflict, Forbidden, InvalidArgument):
        if isinstance(exc, kind):
            return kind(sentence)
    return Internal(sentence)
