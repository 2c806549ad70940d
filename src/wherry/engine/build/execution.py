"""RUN: a step's program in a container of the engine's own kind, whose upper directory becomes a layer.

Theory of operation. The container is no record of the container service: it has no name, no log, and nobody
can attach. Its id is in the journal from before the launch until after the tear-down, so that the next engine
kills what a dead one left. Everything that was made is undone in the reverse order, also when the build is
cancelled in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from wherry.build.plan import RunStep
from wherry.engine.build.agents import prepare_agents
from wherry.engine.build.layers import Chain, Layer, Workspace
from wherry.engine.build.mounts import (
    CacheFolders,
    StepMounts,
    absolute,
    bind,
    clear_mounts,
    make_folders,
    mount_root,
    prepare_files,
    prepare_secrets,
    remove_stubs,
    resolve_inside,
    tmpfs,
)
from wherry.engine.build.records import BuildOptions, StepFailed
from wherry.engine.containers.devices import container_devices
from wherry.engine.containers.failure import container_failure, missing_command
from wherry.engine.containers.host_files import build_hosts, build_resolv_conf, find_resolver
from wherry.engine.containers.host_side import has_names
from wherry.engine.containers.resources import check_resources, read_machine, set_swap_default
from wherry.engine.containers.seams import Launcher, NetworkAttacher
from wherry.engine.containers.spec import SpecInputs, build_spec
from wherry.engine.endpoints import host_gateway
from wherry.engine.resolvers import Resolvers
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import Attachment, ExitRecord, ShimHandle, ShimLaunchError, ShimRequest
from wherry.engine.store import Store, Table
from wherry.engine.tasks import Tasks
from wherry.engine.warm import warm_cgroups
from wherry.lib.ids import new_id
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.lib.program import run_worker
from wherry.model.container import (
    Container,
    ContainerConfig,
    ContainerId,
    EndpointConfig,
    HostConfig,
)
from wherry.model.errors import EngineError, NotSupported
from wherry.model.image import RootMount
from wherry.model.network import InterfaceValues

logger = logging.getLogger(__name__)

HOST_NAME = (
    "buildkitsandbox"  # BuildKit's: what a step can see should not differ from build to build
)
TAIL_BYTES = 16 << 10

Output = Callable[[int, bytes], None]
Sources = Mapping[int, "Chain | Path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStep:
    """Journal: a container of a build, to be killed when its engine is gone."""

    container_id: str


class Runner:
    """Runs steps for all builds of one engine."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        networks: NetworkAttacher,
        shims: Launcher,
        resolvers: Resolvers,
        workspace: Workspace,
        cgroup_version: int,
    ) -> None:
        self._settings = settings
        self._journal = Table(store, "build_steps", RunningStep)
        self._networks = networks
        self._shims = shims
        self._resolvers = resolvers
        self._workspace = workspace
        self.caches = CacheFolders(settings.root)
        self._cgroup_version = cgroup_version
        self._run = settings.run_dir / "build"
        self._machine = read_machine()
        self._tasks = Tasks("build steps")

    async def start(self) -> None:
        """Kills the steps that an earlier engine left and removes what they had."""
        for container_id, _ in list(self._journal.items()):
            found = await self._shims.adopt(container_id, 1)
            if isinstance(found, ShimHandle):
                await _kill(found)
                await found.release()
            elif isinstance(found, ExitRecord):
                await self._shims.forget(container_id, 1)
            self._journal.delete(container_id)
            logger.info("killed build step %s of an earlier engine", container_id[:12])
        await asyncio.to_thread(clear_mounts, self._run)

    def reserve_id(self, step: RunStep, options: BuildOptions) -> str:
        """The id of the step's container to come, which something may be prepared for."""
        parent = self._settings.cgroup_parent.rstrip("/")
        return self._shims.reserve_id(parent, _network_mode(step, options)) or new_id()

    async def run(
        self,
        step: RunStep,
        chain: Chain,
        *,
        options: BuildOptions,
        sources: Sources,
        output: Output,
        container_id: str,
    ) -> Layer | None:
        """Runs the step over the chain; the layer is not packed yet, None when nothing changed.

        `sources` are what the step's mounts bind, by their place. Raises StepFailed, EngineError.
        """
        if not step.argv:
            raise missing_command("")
        self._tasks.promise(self._warm(container_id), f"warm the cgroups for {container_id}")
        folder = self._workspace.make()
        prepared = StepMounts()
        try:
            root = await self._workspace.writable(chain, folder, stubs=True)
            await self._prepare(step, folder, sources, options, prepared)
            record = self._record(step, options, container_id)
            code, tail = await self._execute(step, record, root, folder, prepared, output)
            if code:
                command = " ".join(step.argv)
                raise StepFailed(
                    f"The command '{command}' returned a non-zero code: {code}",
                    exit_code=code,
                    tail=tail,
                )
            if not await asyncio.to_thread(_finish, root, tuple(prepared.targets)):
                self._workspace.discard(folder)
                return None
            return Layer(None, Path(root.upper))
        except BaseException:
            prepared.release()
            self._workspace.discard(folder)
            raise
        finally:
            prepared.release()

    async def _warm(self, container_id: str) -> None:
        if not self._shims.is_prepared(container_id):
            await warm_cgroups()

    def _record(self, step: RunStep, options: BuildOptions, container_id: str) -> Container:
        mode = _network_mode(step, options)
        if mode.startswith("container:"):
            raise NotSupported("a build step cannot join the network of a container")
        privileged = step.security == "insecure"
        cgroupns = self._settings.default_cgroupns_mode or (
            "host" if self._cgroup_version == 1 or privileged else "private"
        )
        host = HostConfig(
            network_mode=mode,
            shm_size=options.shm_size or self._settings.default_shm_size,
            extra_hosts=options.extra_hosts,
            ulimits=options.ulimits,
            memory=options.memory,
            memory_swap=options.memory_swap,
            cpu_shares=options.cpu_shares,
            cpu_period=options.cpu_period,
            cpu_quota=options.cpu_quota,
            cpuset_cpus=options.cpuset_cpus,
            cpuset_mems=options.cpuset_mems,
            privileged=privileged,
            ipc_mode="private",
            cgroupns_mode=cgroupns,
        )
        check_resources(host, self._machine)
        return Container(
            id=ContainerId(container_id),
            name=f"build-{container_id[:12]}",
            created="",
            image_id="",
            image_ref="",
            path=step.argv[0],
            args=step.argv[1:],
            config=ContainerConfig(
                hostname=HOST_NAME,
                user=step.user,
                working_dir=step.cwd,
                env=step.env,
            ),
            host_config=set_swap_default(host),
            networks={mode: EndpointConfig()},
        )

    async def _execute(
        self,
        step: RunStep,
        record: Container,
        root: RootMount,
        folder: Path,
        prepared: StepMounts,
        output: Output,
    ) -> tuple[int, str]:
        self._journal.put(record.id, RunningStep(container_id=record.id))
        network = record.host_config.network_mode
        ours, theirs = socket.socketpair()
        reader: asyncio.Task[bytes] | None = None
        release: asyncio.Task[None] | None = None
        try:
            endpoint, values = await self._networks.connect(record, network, EndpointConfig())
            record = replace(record, endpoints={network: endpoint})
            self._write_files(folder, record)
            oci = self._specification(step, record, folder, prepared)
            request = self._request(record, oci, root, values, theirs.detach())
            handle = await self._launch(request)
            self._resolvers.serve(record, handle.resolver)
            ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
            reader = asyncio.get_running_loop().create_task(_read_frames(ours, output))
            try:
                exit_record = await asyncio.shield(handle.exited)
            except asyncio.CancelledError:
                await _kill(handle)
                raise
            finally:
                release = asyncio.get_running_loop().create_task(handle.release())
            # Ends when the root's mount has gone, and the next step can begin: the rest is freed meanwhile.
            tail = await reader
            return exit_record.exit_code, tail.decode(errors="replace")
        finally:
            if reader is not None:
                reader.cancel()
            ours.close()
            theirs.close()
            self._tasks.promise(self._free(record, network, release), f"free {record.id}")

    async def _free(
        self, record: Container, network: str, release: asyncio.Task[None] | None
    ) -> None:
        try:
            if release is not None:
                await release
        finally:
            self._resolvers.stop(record.id)
            await self._networks.disconnect(record, network)
        with contextlib.suppress(EngineError):  # a full disk is not what the step failed of
            self._journal.delete(record.id)

    async def settle(self) -> None:
        """Waits until nothing is left of steps that have ended."""
        await self._tasks.settle()

    async def _launch(self, request: ShimRequest) -> ShimHandle:
        try:
            return await self._shims.launch(request)
        except ShimLaunchError as error:
            raise StepFailed(str(container_failure(error))) from error

    def _request(
        self,
        record: Container,
        oci: JsonObject,
        root: RootMount,
        values: InterfaceValues | None,
        client: int,
    ) -> ShimRequest:
        return ShimRequest(
            container_id=record.id,
            generation=1,
            oci=oci,
            root=root,
            cgroup_path=self._cgroup_path(record),
            interfaces=() if values is None else (values,),
            with_resolver=has_names(record),
            attachments=(Attachment(fd=client, multiplexed=True),),
            network=record.host_config.network_mode,
            is_brief=True,
            is_followed=True,
        )

    def _cgroup_path(self, record: Container) -> str:
        return f"{self._settings.cgroup_parent.rstrip('/')}/{record.id}"

    def _write_files(self, folder: Path, record: Container) -> None:
        host = record.host_config
        endpoints = record.endpoints.values()
        addresses = [endpoint.ip_address for endpoint in endpoints if endpoint.ip_address]
        gateway = host_gateway(self._settings, self._networks.get("bridge"))
        resolver = build_resolv_conf(
            find_resolver(self._settings),
            host,
            keep_local=host.network_mode == "host",
            with_resolver=has_names(record),
        )
        (folder / "resolv.conf").write_text(resolver)
        (folder / "hosts").write_text(build_hosts(record, addresses, gateway=gateway))
        (folder / "hostname").write_text(f"{HOST_NAME}\n")

    def _specification(
        self, step: RunStep, record: Container, folder: Path, prepared: StepMounts
    ) -> JsonObject:
        devices, rules = container_devices(record.host_config)
        oci = build_spec(
            SpecInputs(
                container=record,
                folder=folder,
                cgroup_path=self._cgroup_path(record),
                devices=devices,
                device_rules=rules,
                default_ulimits=self._settings.default_ulimits,
                no_new_privileges=self._settings.no_new_privileges,
            )
        )
        process, mounts = oci["process"], oci["mounts"]
        if not isinstance(process, Mapping) or not isinstance(mounts, list):
            raise TypeError("the specification has no process")
        env: list[JsonValue] = [*step.env, *step.proxy_env, *prepared.env]
        return {
            **oci,
            "process": {**process, "env": env},
            "mounts": [*mounts, *sorted(prepared.mounts, key=_depth)],
        }

    async def _prepare(
        self,
        step: RunStep,
        folder: Path,
        sources: Sources,
        options: BuildOptions,
        prepared: StepMounts,
    ) -> None:
        place = self._run / folder.name
        for number, mount in enumerate(step.mounts):
            target = absolute(step.cwd, mount.target)
            if mount.type == "tmpfs":
                prepared.mounts.append(tmpfs(mount, target))
                prepared.targets.append(target)
            elif mount.type == "cache":
                fill = None
                if number in sources:
                    fill = partial(self._fill_cache, sources[number], mount.source, folder)
                path = await self.caches.take(mount, prepared, folder / f"cache-{number}", fill)
                prepared.mounts.append(bind(str(path), target, read_only=mount.read_only))
                prepared.targets.append(target)
            elif mount.type == "bind":
                source = await self._bind_source(
                    sources[number],
                    mount.source,
                    place / str(number),
                    folder / f"bind-{number}",
                    read_only=mount.read_only,
                    prepared=prepared,
                )
                prepared.mounts.append(bind(source, target, read_only=mount.read_only))
                prepared.targets.append(target)
        prepare_secrets(step, options.secrets, place / "secrets", prepared)
        await prepare_agents(step, options.ssh, place / "agents", prepared)
        prepare_files(step, folder / "heredocs", prepared)

    async def _bind_source(
        self,
        source: Chain | Path,
        path: str,
        place: Path,
        scratch: Path,
        *,
        read_only: bool,
        prepared: StepMounts,
    ) -> str:
        trees = await self._trees(source, scratch)
        root = RootMount(lowers=trees)
        if not read_only:
            upper, work = make_folders(scratch, ("upper", "work"))
            root = RootMount(lowers=trees, upper=str(upper), work=str(work))
        await asyncio.to_thread(mount_root, root, place)
        prepared.mounted.append(place)
        return await asyncio.to_thread(resolve_inside, place, path or "/", path or "/")

    async def _trees(self, source: Chain | Path, scratch: Path) -> tuple[str, ...]:
        if isinstance(source, Path):
            return (str(source),)
        make_folders(scratch.parent, (scratch.name,))
        return (await self._workspace.read_only(source, scratch)).lowers

    async def _fill_cache(self, source: Chain | Path, inner: str, folder: Path, path: Path) -> None:
        lowers = await self._trees(source, folder / "cache-source")
        await run_worker(
            "wherry.engine.build.copying:copy",
            {
                "root": {"path": str(path)},
                "destination": "/",
                "jobs": [
                    {"kind": "tree", "tree": {"lowers": list(lowers)}, "paths": [inner or "/"]}
                ],
            },
        )


def _depth(mount: JsonValue) -> int:
    return str(mount["destination"]).count("/") if isinstance(mount, Mapping) else 0


def _finish(root: RootMount, targets: tuple[str, ...]) -> bool:
    """Takes mount points away; answers whether the step changed anything."""
    if targets:
        remove_stubs(Path(root.upper), root.lowers, targets)
    with os.scandir(root.upper) as entries:
        return next(entries, None) is not None


async def _kill(handle: ShimHandle) -> None:
    try:
        handle.send_signal(signal.SIGKILL)
    except ProcessLookupError:
        pass
    await asyncio.shield(handle.exited)


async def _read_frames(connection: socket.socket, output: Output) -> bytes:
    """Passes output on as it comes; answers the end of it."""
    loop = asyncio.get_running_loop()
    buffer = bytearray()
    tail = bytearray()
    while True:
        try:
            data = await loop.sock_recv(connection, 1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            return bytes(tail[-TAIL_BYTES:])
        buffer += data
        while len(buffer) >= 8:
            length = int.from_bytes(buffer[4:8], "big")
            if len(buffer) < 8 + length:
                break
            payload = bytes(buffer[8 : 8 + length])
            output(2 if buffer[0] == 2 else 1, payload)
            tail += payload
            del tail[:-TAIL_BYTES]
            del buffer[: 8 + length]


def _network_mode(step: RunStep, options: BuildOptions) -> str:
    mode = step.network if step.network not in {"", "default"} else options.network_mode
    return "bridge" if mode in {"", "default"} else mode
