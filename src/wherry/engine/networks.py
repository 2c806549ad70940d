"""Networks: the default bridge, bridges that users make, and the endpoints of running containers.

The engine decides every value (address, MAC, names of interfaces) in memory; the shim and init apply them
(`InterfaceValues`). What is in use right now is not stored: `restore` takes it in from the containers that run.
Bridges and the firewall table stay when the engine ends, since containers go on.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from wherry.engine.dnsnames import build_dns_names, rename_endpoint
from wherry.engine.endpoints import (
    PREDEFINED,
    check_endpoint,
    find_link_local,
    interface_sysctls,
)
from wherry.engine.store import Store, Table
from wherry.kernel.netlink.rtnl import Rtnl
from wherry.lib.booleans import BOOLEANS
from wherry.model.container import (
    Container,
    Endpoint,
    EndpointConfig,
    PortBinding,
)
from wherry.model.errors import (
    Conflict,
    Forbidden,
    Internal,
    InvalidArgument,
    NoSuchNetwork,
    NotFound,
)
from wherry.model.network import (
    InterfaceValues,
    Ipam,
    IpamConfig,
    Network,
    NetworkId,
    NetworkMember,
)
from wherry.network.dns import split_network
from wherry.network.firewall import BridgeNetwork, Firewall, PublishedPort
from wherry.network.ipam import (
    DEFAULT_POOLS,
    AddressPool,
    build_host_name,
    build_mac,
    find_free_subnet,
    pool_errors,
)
from wherry.network.ports import parse_container_port, reserve_port
from wherry.network.turn import subnet_turn

BRIDGE_OPTION = "com.docker.network.bridge."
MTU_OPTION = "com.docker.network.driver.mtu"
_SWITCHES = frozenset({"enable_icc", "enable_ip_masquerade", "default_bridge", "inhibit_ipv4"})
NOT_HOST_MODE = (
    "cannot connect container to host network - container must be created in host network mode"
)


logger = logging.getLogger(__name__)


class PublishEvent(Protocol):
    """Where events go."""

    def __call__(
        self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]
    ) -> None: ...


@dataclass(slots=True)
class _Attachment:
    """A running container's endpoint and what it holds."""

    member: NetworkMember
    address: str
    endpoint: Endpoint
    ports: list[PublishedPort] = field(default_factory=list)
    holders: list[socket.socket] = field(default_factory=list)


class _Live:
    """A network's record with its addresses and members."""

    def __init__(self, record: Network) -> None:
        self.record = record
        self.members: dict[str, _Attachment] = {}
        self.pool: AddressPool | None = None
        self.index = 0
        for config in record.ipam.config:
            if ":" not in config.subnet:
                self.pool = AddressPool(
                    config.subnet,
                    gateway=config.gateway,
                    ip_range=config.ip_range,
                    reserved=config.auxiliary_addresses.values(),
                )
                break

    @property
    def mtu(self) -> int:
        return int(self.record.options.get(MTU_OPTION, "1500"))

    def is_on(self, option: str, *, default: bool) -> bool:
        value = self.record.options.get(BRIDGE_OPTION + option)
        return default if value is None else BOOLEANS.get(value, False)


class Networks:
    """The service. Names, ids and unique id prefixes are references everywhere."""

    def __init__(
        self,
        store: Store,
        publish_event: PublishEvent,
        *,
        bridge: str = "wherry0",
        bridge_address: str = "",
        pools: Iterable[str] = DEFAULT_POOLS,
        mtu: int = 1500,
    ) -> None:
        """`bridge_address` is the default bridge's own, with prefix length ("" = choose)."""
        self._store = store
        self._table = Table(store, "networks", Network)
        self._publish_event = publish_event
        self._bridge = bridge
        self._bridge_address = bridge_address
        self._pools = tuple(pools)
        self._mtu = mtu
        self._firewall = Firewall(bridge)
        self._live: dict[str, _Live] = {}

    async def start(self) -> None:
        """Makes the predefined networks, all bridges and the firewall table. Raises Internal."""
        for _, record in list(self._table.items()):
            self._live[record.id] = _Live(record)
        try:
            async with subnet_turn():
                for name, driver in PREDEFINED.items():
                    if self._find_by_name(name) is None:
                        self._add(self._build_predefined(name, driver))
                for live in self._live.values():
                    if live.record.bridge:
                        self._ensure_bridge(live)
            _write_sysctl("net/ipv4/ip_forward", "1")
            self._load_firewall()
        except OSError as exc:
            raise Internal(
                f"set up bridge network {self._bridge}: {exc.filename}: {exc.strerror}"
            ) from exc

    def _build_predefined(self, name: str, driver: str) -> Network:
        options: dict[str, str] = {}
        ipam = Ipam()
        if driver == "bridge":
            address = self._bridge_address or self._choose_bridge_address()
            interface = ipaddress.IPv4Interface(address)
            ipam = Ipam(
                config=(IpamConfig(subnet=str(interface.network), gateway=str(interface.ip)),)
            )
            options = {
                BRIDGE_OPTION + "default_bridge": "true",
                BRIDGE_OPTION + "enable_icc": "true",
                BRIDGE_OPTION + "enable_ip_masquerade": "true",
                BRIDGE_OPTION + "host_binding_ipv4": "0.0.0.0",
                BRIDGE_OPTION + "name": self._bridge,
                MTU_OPTION: str(self._mtu),
            }
        return Network(
            id=NetworkId(secrets.token_hex(32)),
            name=name,
            created=_now(),
            driver=driver,
            ipam=ipam,
            options=options,
            bridge=self._bridge if driver == "bridge" else "",
            predefined=True,
        )

    def _choose_bridge_address(self) -> str:
        """What the bridge has already (an earlier engine's), else the first host of a free pool."""
        with Rtnl() as rtnl:
            link = rtnl.find_link(self._bridge)
            for address in rtnl.addresses(link.index) if link else ():
                if "." in address:
                    return address
        subnet = ipaddress.IPv4Network(self._find_subnet())
        return f"{subnet.network_address + 1}/{subnet.prefixlen}"

    def _find_subnet(self) -> str:
        taken = [
            config.subnet for live in self._live.values() for config in live.record.ipam.config
        ]
        with Rtnl() as rtnl:
            taken += [target for target, _ in rtnl.routes()]
        return find_free_subnet(taken, self._pools)

    def _ensure_bridge(self, live: _Live) -> None:
        record = live.record
        with Rtnl() as rtnl:
            link = rtnl.find_link(record.bridge)
            if link is None:
                rtnl.add_bridge(record.bridge, mac=build_mac())
                rtnl.flush()
                link = rtnl.find_link(record.bridge)
            if link is None:
                raise OSError(19, "no such device", record.bridge)
            live.index = link.index
            present = rtnl.addresses(link.index)
            for config in _pools_in_use(record.ipam, enable_ipv6=record.enable_ipv6):
                network = ipaddress.ip_network(config.subnet)
                gateway = (
                    live.pool.gateway if live.pool and network.version == 4 else config.gateway
                )
                address = f"{gateway}/{network.prefixlen}"
                if (
                    gateway
                    and address not in present
                    and not live.record.options.get(BRIDGE_OPTION + "inhibit_ipv4")
                ):
                    rtnl.add_address(link.index, address, replace=True)
            rtnl.set_up(link.index)
            rtnl.flush()
        # A port published on 127.0.0.1 is translated on its way out; without this the kernel drops it as martian.
        _write_sysctl(f"net/ipv4/conf/{record.bridge}/route_localnet", "1")
        self._firewall.pass_docker(record.bridge)

    def _load_firewall(self) -> None:
        bridges = [
            BridgeNetwork(
                bridge=live.record.bridge,
                subnet=str(live.pool.network),
                masquerade=live.is_on("enable_ip_masquerade", default=True),
                internal=live.record.internal,
                icc=live.is_on("enable_icc", default=True),
            )
            for live in self._live.values()
            if live.record.bridge and live.pool is not None
        ]
        ports = [
            port
            for live in self._live.values()
            for attachment in live.members.values()
            for port in attachment.ports
        ]
        self._firewall.load(bridges, ports)

    def get(self, ref: str) -> Network:
        """By name, id or unique id prefix. Raises NoSuchNetwork."""
        return self._get_live(ref).record

    def members(self, ref: str) -> list[NetworkMember]:
        """Running containers on it. Raises NoSuchNetwork."""
        return [attachment.member for attachment in self._get_live(ref).members.values()]

    def list_all(self) -> list[Network]:
        """All networks, newest first, as Docker lists them by name."""
        return sorted((live.record for live in self._live.values()), key=lambda record: record.name)

    def _find_by_name(self, name: str) -> _Live | None:
        return next((live for live in self._live.values() if live.record.name == name), None)

    def _get_live(self, ref: str) -> _Live:
        name = "bridge" if ref == "default" else ref
        exact = self._live.get(name) or self._find_by_name(name)
        if exact is not None:
            return exact
        matches = [live for key, live in self._live.items() if name and key.startswith(name)]
        if len(matches) > 1:
            raise InvalidArgument(
                f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)"
            )
        if not matches:
            raise NoSuchNetwork(ref)
        return matches[0]

    def _add(self, record: Network) -> _Live:
        live = _Live(record)
        self._table.put(record.id, record)
        self._live[record.id] = live
        return live

    async def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        internal: bool = False,
        attachable: bool = False,
        enable_ipv6: bool = False,
        ipam: Ipam | None = None,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[Network, str]:
        """A new bridge network and a warning. Raises InvalidArgument, Conflict, Forbidden, NotFound."""
        if name in PREDEFINED or name == "default":
            # Docker's sentence ends in a space.
            raise Forbidden(f"operation is not permitted on predefined {name} network ")
        if not name.strip():
            raise InvalidArgument("invalid name: name is empty")
        if driver in {"host", "null"}:
            raise Forbidden(f'only one instance of "{driver}" network is allowed')
        if driver not in {"", "default", "bridge"}:
            raise NotFound(f'plugin "{driver}" not found')
        options = dict(options or {})
        _check_options(options)
        identity = NetworkId(secrets.token_hex(32))
        bridge = options.get(BRIDGE_OPTION + "name") or f"br-{identity[:12]}"
        ipam = ipam or Ipam()
        async with subnet_turn():
            if self._find_by_name(name) is not None:
                raise Conflict(f"network with name {name} already exists")
            record = Network(
                id=identity,
                name=name,
                created=_now(),
                internal=internal,
                attachable=attachable,
                enable_ipv6=enable_ipv6,
                ipam=self._complete_ipam(ipam, enable_ipv6=enable_ipv6),
                options=options,
                has_own_subnet=any(config.subnet for config in ipam.config),
                labels=dict(labels or {}),
                bridge=bridge,
                bridge_was_there=_is_bridge(bridge),
            )
            live = self._add(record)
            try:
                self._ensure_bridge(live)
                self._load_firewall()
            except OSError as exc:
                self._drop(live)
                raise Internal(f"create network {name}: {exc.filename}: {exc.strerror}") from exc
        self._emit(record, "create", {})
        return record, ""

    def _complete_ipam(self, ipam: Ipam, *, enable_ipv6: bool) -> Ipam:
        if ipam.driver not in {"", "default"}:
            raise NotFound(f'plugin "{ipam.driver}" not found')
        wrong = [
            error
            for config in _pools_in_use(ipam, enable_ipv6=enable_ipv6)
            for error in pool_errors(
                config.subnet, config.gateway, config.ip_range, config.auxiliary_addresses
            )
        ]
        if wrong:
            listed = f"\n{wrong[0]}" if len(wrong) == 1 else "".join(f"\n* {w}" for w in wrong)
            raise InvalidArgument(f"invalid network config:{listed}")
        if all(":" in config.subnet for config in ipam.config):
            subnet = self._find_subnet()
            own = IpamConfig(subnet=subnet, gateway=_first_host(subnet))
            ipam = replace(ipam, config=(*ipam.config, own))
        taken = [
            ipaddress.ip_network(config.subnet)
            for live in self._live.values()
            for config in _pools_in_use(live.record.ipam, enable_ipv6=live.record.enable_ipv6)
        ]
        for config in _pools_in_use(ipam, enable_ipv6=enable_ipv6):
            wanted = ipaddress.ip_network(config.subnet)
            if any(_overlap(wanted, network) for network in taken):
                raise Forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space"
                )
        return ipam

    async def remove(self, ref: str) -> None:
        """Raises NoSuchNetwork, Forbidden for predefined ones and for networks in use."""
        live = self._get_live(ref)
        record = live.record
        if record.predefined:
            raise Forbidden(f"{record.name} is a pre-defined network and cannot be removed")
        if live.members:
            users = ", ".join(
                f'name:"{attachment.member.name}" id:"{attachment.member.endpoint_id[:12]}"'
                for attachment in live.members.values()
            )
            raise Forbidden(
                f"error while removing network: network {record.name} has active endpoints ({users})"
            )
        self._drop(live)
        self._emit(record, "destroy", {})

    def _drop(self, live: _Live) -> None:
        # The bridge first: one that no record names would stay for good when the engine is killed here.
        with Rtnl() as rtnl:
            link = rtnl.find_link(live.record.bridge)
            if link is not None and not live.record.bridge_was_there:
                rtnl.delete_link(link.index)
                rtnl.flush()
        self._table.delete(live.record.id)
        del self._live[live.record.id]
        self._load_firewall()

    async def prune(
        self, matches: Callable[[Network], bool], used: Callable[[Network], bool]
    ) -> list[str]:
        """Removes unused networks that match; returns their names."""
        names = []
        for live in list(self._live.values()):
            record = live.record
            if not record.predefined and not live.members and matches(record) and not used(record):
                await self.remove(record.id)
                names.append(record.name)
        self._publish_event("network", "prune", "", {"reclaimed": "0"})
        return names

    def check_config(self, ref: str, config: EndpointConfig, *, naming: bool = False) -> None:
        """Raises InvalidArgument; `naming` puts the network's name in front, as `create` does."""
        try:
            record = self._get_live(ref).record
        except NotFound:
            check_endpoint(config, ref, None, naming=naming)
        else:
            check_endpoint(config, record.name, record, naming=naming)

    def find_gateway(self, networks: Mapping[str, EndpointConfig]) -> str:
        """Which of these networks is a container's way out and has its published ports; "" for none.

        As in Docker, the highest `gw_priority`, then the first by name. Raises NoSuchNetwork.
        """
        found = {name: self._get_live(name).record for name in networks}
        leading_out = [
            (-networks[name].gw_priority, record.name, name)
            for name, record in found.items()
            if record.driver == "bridge" and not record.internal
        ]
        return min(leading_out)[2] if leading_out else ""

    async def connect(
        self,
        container: Container,
        ref: str,
        config: EndpointConfig,
        *,
        interface: str = "eth0",
        default_route: bool = True,
    ) -> tuple[Endpoint, InterfaceValues | None]:
        """Reserves a start's endpoint. Idempotent per container and network until `disconnect`.

        Returns no interface for host and none. Raises NoSuchNetwork, InvalidArgument, Conflict.
        """
        live = self._get_live(ref)
        record = live.record
        if record.driver == "host" and container.host_config.network_mode != "host":
            raise InvalidArgument(NOT_HOST_MODE)
        endpoint_id = secrets.token_hex(32)
        if record.driver != "bridge" or live.pool is None:
            endpoint = Endpoint(network_id=record.id, endpoint_id=endpoint_id, config=config)
            self._join(live, container, _Attachment(_member(container, endpoint), "", endpoint))
            return endpoint, None
        self.check_config(ref, config, naming=True)
        held = live.members.get(container.id)
        if held is not None:
            await self.disconnect(container, ref)
        link_local = find_link_local(config)
        address = live.pool.take(config.ipv4_address)
        mac = config.mac_address or container.config.mac_address or build_mac()
        plain, _, prefix = address.partition("/")
        named = not record.predefined
        endpoint = Endpoint(
            network_id=record.id,
            endpoint_id=endpoint_id,
            gateway="" if record.internal else live.pool.gateway,
            ip_address=plain,
            ip_prefix_len=int(prefix),
            mac_address=mac,
            dns_names=build_dns_names(container, config) if named else None,
            config=config,
        )
        values = InterfaceValues(
            name=interface,
            host_name=build_host_name(),
            bridge=record.bridge,
            mac=mac,
            mtu=live.mtu,
            addresses=(address, *link_local),
            gateway=live.pool.gateway if default_route and not record.internal else "",
            sysctls=interface_sysctls(config),
        )
        self._join(live, container, _Attachment(_member(container, endpoint), plain, endpoint))
        return endpoint, values

    def _join(self, live: _Live, container: Container, attachment: _Attachment) -> None:
        live.members[container.id] = attachment
        self._emit(live.record, "connect", {"container": container.id})

    async def disconnect(self, container: Container, ref: str) -> None:
        """Frees the endpoint's address and ports; idempotent."""
        try:
            live = self._get_live(ref)
        except NoSuchNetwork:
            return
        attachment = live.members.pop(container.id, None)
        if attachment is None:
            return
        if attachment.address and live.pool is not None:
            live.pool.give_back(attachment.address)
        self._withdraw(attachment)
        self._emit(live.record, "disconnect", {"container": container.id})

    async def publish(
        self, container: Container, ref: str
    ) -> Mapping[str, tuple[PortBinding, ...]]:
        """Publishes the container's ports on an endpoint that `connect` made; all or none.

        Returns what `docker port` shows. Raises Conflict, InvalidArgument, Internal.
        """
        live = self._get_live(ref)
        attachment = live.members[container.id]
        wanted = {
            port: bindings
            for port, bindings in container.host_config.port_bindings.items()
            if bindings
        }
        if container.host_config.publish_all_ports:
            for port in container.config.exposed_ports:
                wanted.setdefault(port, (PortBinding(),))
        if not wanted or not attachment.address:
            return {}
        shown: dict[str, tuple[PortBinding, ...]] = {}
        default_host = live.record.options.get(BRIDGE_OPTION + "host_binding_ipv4", "0.0.0.0")
        try:
            for container_port, bindings in wanted.items():
                number, protocol = parse_container_port(container_port)
                made = []
                for binding in bindings:
                    host_ip = binding.host_ip or default_host
                    if ":" in host_ip:
                        continue
                    host_port, holder = reserve_port(host_ip, binding.host_port, protocol)
                    if holder is not None:
                        attachment.holders.append(holder)
                    attachment.ports.append(
                        PublishedPort(
                            host_ip=host_ip,
                            host_port=host_port,
                            protocol=protocol,
                            address=attachment.address,
                            port=number,
                        )
                    )
                    made.append(PortBinding(host_ip=host_ip, host_port=str(host_port)))
                shown[f"{number}/{protocol}"] = tuple(made)
            self._firewall.publish(attachment.ports)
        except (Conflict, Internal) as exc:
            self._withdraw(attachment)
            raise type(exc)(
                "driver failed programming external connectivity on endpoint "
                f"{container.name} ({attachment.member.endpoint_id}): {exc}"
            ) from exc
        except OSError as exc:
            self._withdraw(attachment)
            raise Internal(
                f"publish ports of {container.name}: {exc.filename}: {exc.strerror}"
            ) from exc
        return shown

    def withdraw(self, container: Container, ref: str) -> None:
        """Ends what `publish` did; the endpoint stays. Idempotent."""
        attachment = self._get_live(ref).members.get(container.id)
        if attachment is not None:
            self._withdraw(attachment)

    def _withdraw(self, attachment: _Attachment) -> None:
        if attachment.ports:
            self._firewall.withdraw(attachment.ports)
            attachment.ports.clear()
        for holder in attachment.holders:
            holder.close()
        attachment.holders.clear()

    def rename_member(self, container: Container) -> None:
        """A running container has a new name."""
        for live in self._live.values():
            attachment = live.members.get(container.id)
            if attachment is not None:
                attachment.member = replace(attachment.member, name=container.name)
                attachment.endpoint = rename_endpoint(container, attachment.endpoint)

    def find_addresses(self, container_id: str, name: str) -> tuple[str, ...] | None:
        """What the name, in lower case, means to a container; None when it is nobody's on its networks."""
        own = self._named_networks_of(container_id)
        for wanted, network in split_network(name):
            for live in own:
                if network in {"", live.record.name.lower()}:
                    found = _find_members(live, live.members[container_id], wanted)
                    if found:
                        return found
        return None

    def find_name(self, container_id: str, address: str) -> str:
        """`container.network` of an address on one of a container's networks, or ""."""
        for live in self._named_networks_of(container_id):
            for attachment in live.members.values():
                if address and attachment.address == address:
                    return f"{attachment.member.name}.{live.record.name}"
        return ""

    def may_leave(self, container_id: str) -> bool:
        """Whether one of a container's networks leads outside."""
        return any(
            container_id in live.members and not live.record.internal
            for live in self._live.values()
        )

    def _named_networks_of(self, container_id: str) -> list[_Live]:
        return [
            live
            for live in self._live.values()
            if not live.record.predefined and container_id in live.members
        ]

    async def restore(self, containers: Iterable[Container]) -> None:
        """Takes in what running containers hold, after a restart of the engine."""
        for container in containers:
            named = {e.network_id: e.config for e in container.endpoints.values()}
            known = {key: config for key, config in named.items() if key in self._live}
            way_out = self.find_gateway(known)
            for name, endpoint in container.endpoints.items():
                live = self._live.get(endpoint.network_id) or self._find_by_name(name)
                if live is None:
                    continue
                attachment = _Attachment(
                    _member(container, endpoint), endpoint.ip_address, endpoint
                )
                if endpoint.ip_address and live.pool is not None:
                    live.pool.hold(endpoint.ip_address)
                ports = container.ports if live.record.id == way_out else {}
                for container_port, published in ports.items():
                    number, protocol = parse_container_port(container_port)
                    for binding in published:
                        try:
                            _, holder = reserve_port(binding.host_ip, binding.host_port, protocol)
                        except Conflict as exc:
                            # Somebody took it while no engine ran; the container goes on without.
                            logger.warning("container %s: %s", container.id, exc)
                            holder = None
                        if holder is not None:
                            attachment.holders.append(holder)
                        attachment.ports.append(
                            PublishedPort(
                                host_ip=binding.host_ip,
                                host_port=int(binding.host_port),
                                protocol=protocol,
                                address=endpoint.ip_address,
                                port=number,
                            )
                        )
                live.members[container.id] = attachment
        self._load_firewall()

    def _emit(self, record: Network, action: str, attributes: Mapping[str, str]) -> None:
        named = {**attributes, "name": record.name, "type": record.driver}
        self._publish_event("network", action, record.id, named)


def _check_options(options: Mapping[str, str]) -> None:
    for name, value in options.items():
        if name == MTU_OPTION and not (value.isascii() and value.isdecimal()):
            raise InvalidArgument(
                f'failed to parse {name} value: {value} (strconv.Atoi: parsing "{value}": invalid syntax)'
            )
        if name.removeprefix(BRIDGE_OPTION) in _SWITCHES and value not in BOOLEANS:
            raise InvalidArgument(
                f"failed to parse {name} value: {value} "
                f'(strconv.ParseBool: parsing "{value}": invalid syntax)'
            )


def _is_bridge(name: str) -> bool:
    """Whether the machine has that bridge already. Raises Internal when it is something else."""
    with Rtnl() as rtnl:
        link = rtnl.find_link(name)
    if link is not None and link.kind != "bridge":
        raise Internal(f"existing interface {name} is not a bridge")
    return link is not None


def _member(container: Container, endpoint: Endpoint) -> NetworkMember:
    address = f"{endpoint.ip_address}/{endpoint.ip_prefix_len}" if endpoint.ip_address else ""
    return NetworkMember(
        container_id=container.id,
        name=container.name,
        endpoint_id=endpoint.endpoint_id,
        mac_address=endpoint.mac_address,
        ipv4_address=address,
    )


def _find_members(live: _Live, asker: _Attachment, wanted: str) -> tuple[str, ...]:
    """By the asker's own links first, then by the names of all members."""
    for link in asker.endpoint.config.links:
        ref, _, alias = link.partition(":")
        if wanted == (alias or ref).lower():
            for container_id, attachment in live.members.items():
                if attachment.member.name == ref or (ref and container_id.startswith(ref)):
                    return (attachment.address,)
    return tuple(
        attachment.address
        for attachment in live.members.values()
        if any(wanted == name.lower() for name in attachment.endpoint.dns_names or ())
    )


def _pools_in_use(ipam: Ipam, *, enable_ipv6: bool) -> list[IpamConfig]:
    """What a network without IPv6 was given for it is kept, but neither checked nor used, as in dockerd."""
    return [config for config in ipam.config if enable_ipv6 or ":" not in config.subnet]


def _overlap(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network,
    other: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> bool:
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.overlaps(other)
    if isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return one.overlaps(other)
    return False


def _first_host(subnet: str) -> str:
    return str(ipaddress.ip_network(subnet).network_address + 1)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _write_sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys") / name
    if path.read_text().strip() != value:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
