"""`docker network connect` and `disconnect`: containers join and leave networks, while they run too.

A stopped container only notes the network for its next start. The way out of a running one and its published ports
belong to the network that `Networks.find_gateway` names, and move when that is another one.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.engine.containers.handle import ContainerHandle, Roster
from wherry.engine.containers.host_files import build_resolv_conf, edit_hosts, find_resolver
from wherry.engine.containers.host_side import has_names
from wherry.engine.containers.processes import open_of
from wherry.engine.containers.state import ALIVE
from wherry.engine.endpoints import interface_name, interface_prefix
from wherry.engine.networks import NOT_HOST_MODE, Networks
from wherry.engine.resolvers import Resolvers
from wherry.engine.settings import EngineSettings
from wherry.engine.shims import ShimGone, ShimLaunchError
from wherry.engine.store import Store, Table
from wherry.kernel.netlink.rtnl import Rtnl
from wherry.lib.blocking import run_blocking
from wherry.lib.jsonvalue import JsonValue
from wherry.lib.program import WorkerError, run_worker
from wherry.model.container import Container, Endpoint, EndpointConfig, Status
from wherry.model.errors import (
    Conflict,
    ContainerNotRunning,
    Forbidden,
    Internal,
    InvalidArgument,
    NoSuchNetwork,
    NotFound,
)
from wherry.model.network import InterfaceValues, Network

logger = logging.getLogger(__name__)

_WORKER = "wherry.engine.network_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """Journal: an interface that no record knows yet."""

    container_id: str
    host_name: str
    mac: str


class Connections:
    """The seam between containers and networks after a container was made."""

    def __init__(
        self,
        *,
        settings: EngineSettings,
        store: Store,
        roster: Roster,
        networks: Networks,
        resolvers: Resolvers,
    ) -> None:
        self._settings = settings
        self._journal = Table(store, "joining_interfaces", Joining)
        self._resolvers = resolvers
        self._roster = roster
        self._networks = networks

    async def start(self) -> None:
        """Ends what an engine that was killed in the middle of a `connect` has left; when containers are taken in."""
        for key, joining in list(self._journal.items()):
            handle = self._roster.find(joining.container_id)
            endpoints = handle.record.endpoints if handle is not None else {}
            if any(endpoint.mac_address == joining.mac for endpoint in endpoints.values()):
                if handle is not None:
                    await self._give_resolver(handle)
            else:
                logger.info("removing interface %s, which nobody knows", joining.host_name)
                await run_blocking(_delete_link, joining.host_name)
            self._journal.delete(key)

    async def connect(self, network_ref: str, ref: str, config: EndpointConfig) -> None:
        """Raises NoSuchNetwork, NoSuchContainer, InvalidArgument, Forbidden, Conflict, Internal."""
        handle = self._get(ref)
        network = self._networks.get(network_ref)
        async with handle.lock:
            record = handle.record
            _check_not_removing(handle)
            alive = record.state.status in ALIVE
            self._networks.check_config(network.id, config)
            _check_mode(record, network)
            if network.name in record.networks and alive:
                raise Forbidden(
                    f"endpoint with name {record.name} already exists in network {network.name}"
                )
            before = self._networks.find_gateway(record.networks)
            networks = {**record.networks, network.name: config}
            if not alive:
                self._roster.replace(handle, replace(record, networks=networks))
                return
            is_way_out = self._networks.find_gateway(networks) == network.name
            endpoint = await self._join(record, network, config, default_route=is_way_out)
            endpoints = {**record.endpoints, network.name: endpoint}
            record = replace(record, networks=networks, endpoints=endpoints)
            self._roster.replace(handle, record)
            await self._give_resolver(handle)
            self._journal.delete(record.id)
            if is_way_out:
                await self._move_ports(handle, before, network.name)

    async def disconnect(self, network_ref: str, ref: str, *, force: bool = False) -> None:
        """Raises NoSuchNetwork, NoSuchContainer, NotFound (forced), InvalidArgument, Internal."""
        handle = self._roster.find(ref)
        if handle is None:
            if force:
                self._networks.get(network_ref)
                raise NotFound(f"endpoint {ref} not found")
            handle = self._get(ref)
        async with handle.lock:
            record = handle.record
            if record.state.status not in ALIVE:
                self._forget(handle, network_ref)
                return
            network = self._networks.get(network_ref)
            if network.driver == "host" and record.host_config.network_mode == "host":
                raise InvalidArgument(
                    "cannot disconnect container from host network - container was created in host"
                    " network mode"
                )
            if network.name not in record.networks and network.name not in record.endpoints:
                raise Internal(f"container {record.id} is not connected to network {network.name}")
            endpoint = record.endpoints.get(network.name)
            left = {name: e for name, e in record.endpoints.items() if name != network.name}
            if endpoint is not None:
                await self._leave(record, network, endpoint, left)
            networks = {name: c for name, c in record.networks.items() if name != network.name}
            had_way_out = self._networks.find_gateway(record.networks) == network.name
            self._roster.replace(handle, replace(record, networks=networks, endpoints=left))
            if had_way_out:
                await self._move_ports(handle, "", self._networks.find_gateway(networks))

    def _forget(self, handle: ContainerHandle, ref: str) -> None:
        """A stopped container is not on that network at its next start; the network may be gone."""
        record = handle.record
        try:
            name = self._networks.get(ref).name
        except NoSuchNetwork:
            name = ref
        if name not in record.networks:
            raise Internal(f"container {record.id} is not connected to the network {name}")
        networks = {key: config for key, config in record.networks.items() if key != name}
        endpoints = {key: end for key, end in record.endpoints.items() if key != name}
        self._roster.replace(handle, replace(record, networks=networks, endpoints=endpoints))

    async def _move_ports(self, handle: ContainerHandle, before: str, after: str) -> None:
        """Publishes on another network what was published on `before`; "" for none."""
        record = handle.record
        if before:
            self._networks.withdraw(record, before)
        self._roster.replace(handle, replace(record, ports={}))
        if after:
            ports = await self._networks.publish(record, after)
            self._roster.replace(handle, replace(record, ports=ports))

    def _get(self, ref: str) -> ContainerHandle:
        if not ref:
            raise InvalidArgument('invalid name or ID supplied: ""')
        return self._roster.get(ref)

    async def _join(
        self, record: Container, network: Network, config: EndpointConfig, *, default_route: bool
    ) -> Endpoint:
        endpoint, values = await self._networks.connect(
            record, network.id, config, default_route=default_route
        )
        if values is None:
            return endpoint
        joining = Joining(
            container_id=record.id, host_name=values.host_name, mac=endpoint.mac_address
        )
        self._journal.put(record.id, joining)
        wanted = {"name": interface_name(config), "prefix": interface_prefix(network)}
        try:
            await self._run(record, "attach", {**_describe(values), **wanted})
        except BaseException:
            await self._networks.disconnect(record, network.id)
            await run_blocking(_delete_link, values.host_name)
            self._journal.delete(record.id)
            raise
        path = self._settings.container_dir(record.id) / "hosts"
        edit_hosts(path, lambda _: False, _hosts_line(record, endpoint))
        return endpoint

    async def _give_resolver(self, handle: ContainerHandle) -> None:
        """To a container that is on a network with names and was on none so far."""
        if (
            handle.shim is None
            or not has_names(handle.record)
            or self._resolvers.is_serving(handle.id)
        ):
            return
        record = handle.record
        try:
            sockets = await handle.shim.open_resolver()
        except ShimGone:
            return
        except ShimLaunchError as exc:
            raise Internal(f"open the resolver of container {record.name}: {exc}") from exc
        self._resolvers.serve(record, sockets)
        resolver = find_resolver(self._settings)
        text = build_resolv_conf(resolver, record.host_config, with_resolver=True)
        _write_in_place(self._settings.container_dir(record.id) / "resolv.conf", text)

    async def _leave(
        self,
        record: Container,
        network: Network,
        endpoint: Endpoint,
        left: Mapping[str, Endpoint],
    ) -> None:
        if endpoint.mac_address:
            heir = left.get(self._networks.find_gateway({n: e.config for n, e in left.items()}))
            await self._run(
                record,
                "detach",
                {
                    "mac": endpoint.mac_address,
                    "gateway": heir.gateway if heir else "",
                    "gateway_mac": heir.mac_address if heir else "",
                },
            )
        await self._networks.disconnect(record, network.id)
        gone = _hosts_line(record, endpoint)
        edit_hosts(self._settings.container_dir(record.id) / "hosts", lambda line: line == gone)

    async def _run(self, record: Container, function: str, arguments: dict[str, JsonValue]) -> None:
        shim = self._roster.get(record.id).shim
        if shim is None:
            raise ContainerNotRunning(record.id)
        try:
            netns = open_of(shim, "ns/net")
        except ProcessLookupError as exc:
            raise ContainerNotRunning(record.id) from exc
        try:
            await run_worker(
                f"{_WORKER}:{function}",
                {**arguments, "netns": netns, "pid": shim.pid},
                fds=[netns],
                nice=False,
            )
        except WorkerError as exc:
            if exc.errno == errno.EEXIST:
                raise Internal(
                    f"failed to add interface {arguments['host_name']} to sandbox: error renaming"
                    f' interface "{arguments["host_name"]}" to "{arguments["name"]}": file exists'
                ) from exc
            raise Internal(f"{function} network of container {record.name}: {exc}") from exc
        finally:
            os.close(netns)


def _delete_link(name: str) -> None:
    with Rtnl() as rtnl:
        link = rtnl.find_link(name)
        if link is not None:
            rtnl.delete_link(link.index)
            rtnl.flush()


def _check_not_removing(handle: ContainerHandle) -> None:
    if handle.removing or handle.record.state.status in {Status.REMOVING, Status.DEAD}:
        raise Conflict(
            f"Container {handle.record.id} is marked for removal and cannot be connected or"
            " disconnected to the network"
        )


def _check_mode(record: Container, network: Network) -> None:
    mode = record.host_config.network_mode
    if mode == "host" or mode.startswith("container:"):
        raise InvalidArgument(
            "container sharing network namespace with another container or host cannot be connected"
            " to any other network"
        )
    if network.driver == "host":
        raise InvalidArgument(NOT_HOST_MODE)
    if network.driver == "null" or "none" in record.networks:
        raise InvalidArgument(
            "container cannot be connected to multiple networks with one of the networks in private"
            " (none) mode"
        )


def _describe(values: InterfaceValues) -> dict[str, JsonValue]:
    return {
        "host_name": values.host_name,
        "bridge": values.bridge,
        "mac": values.mac,
        "mtu": values.mtu,
        "addresses": list(values.addresses),
        "gateway": values.gateway,
        "sysctls": list(values.sysctls),
    }


def _hosts_line(record: Container, endpoint: Endpoint) -> str:
    names = record.config.hostname
    if record.config.domainname:
        names = f"{names}.{record.config.domainname} {names}"
    return f"{endpoint.ip_address}\t{names}\n" if endpoint.ip_address else ""


def _write_in_place(path: Path, text: str) -> None:
    """The container has this very file mounted."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            file.truncate()
            file.write(text)
    except OSError as exc:
        raise Internal(f"write {path}: {exc.strerror}") from exc
