"""Networks as frozen records; also the persisted form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

NetworkId = NewType("NetworkId", str)  # 64 hexadecimal digits


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamConfig:
    """One address pool of a network."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipam:
    """Where a network's addresses come from."""

    driver: str = "default"
    options: Mapping[str, str] | None = None
    config: tuple[IpamConfig, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network, as stored. `driver` is bridge, host or null."""

    id: NetworkId
    name: str
    created: str  # RFC 3339, nanoseconds, UTC
    driver: str = "bridge"
    scope: str = "local"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    ipam: Ipam = field(default_factory=Ipam)
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    has_own_subnet: bool = True  # one that its maker chose
    bridge: str = ""  # interface of this machine
    bridge_was_there: bool = False  # and outlives the network
    predefined: bool = False  # bridge, host and none


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceValues:
    """What the engine decided of one interface; the shim and init only apply it.

    Addresses carry their prefix length; `gateway` is empty where another interface has the default route.
    """

    name: str  # "eth0"
    host_name: str  # "veth1a2b3c4"
    bridge: str
    mac: str
    mtu: int = 1500
    addresses: tuple[str, ...] = ()
    gateway: str = ""
    gateway6: str = ""
    sysctls: tuple[str, ...] = ()  # "net/ipv4/conf/IFNAME/forwarding=0"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMember:
    """A container on a network, as `network inspect` shows it."""

    container_id: str
    name: str
    endpoint_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str = ""
