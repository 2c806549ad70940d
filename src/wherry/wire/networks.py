"""Networks in the Engine API's JSON."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class EndpointIpamConfig(Struct, kw_only=True, rename="pascal"):
    """Addresses asked for."""

    ipv4_address: str | UnsetType = field(name="IPv4Address", default=UNSET)
    ipv6_address: str | UnsetType = field(name="IPv6Address", default=UNSET)
    link_local_ips: list[str] | UnsetType = field(name="LinkLocalIPs", default=UNSET)


class EndpointSettings(Struct, kw_only=True, rename="pascal"):
    """A container on a network: what was asked, and what it has."""

    ipam_config: EndpointIpamConfig | None = field(name="IPAMConfig", default=None)
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(name="NetworkID", default="")
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    dns_names: list[str] | None = field(name="DNSNames", default=None)


class IpamConfig(Struct, kw_only=True, rename="pascal"):
    """One address pool."""

    subnet: str | UnsetType = UNSET
    ip_range: str | UnsetType = field(name="IPRange", default=UNSET)
    gateway: str | UnsetType = UNSET
    auxiliary_addresses: dict[str, str] | UnsetType = field(
        name="AuxiliaryAddresses", default=UNSET
    )


class Ipam(Struct, kw_only=True, rename="pascal"):
    """Where addresses come from."""

    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IpamConfig] | None = None


class ConfigReference(Struct, kw_only=True, rename="pascal"):
    """A network that lends its configuration (swarm)."""

    network: str = ""


class Member(Struct, kw_only=True, rename="pascal"):
    """A container on a network."""

    name: str
    endpoint_id: str = field(name="EndpointID")
    mac_address: str
    ipv4_address: str = field(name="IPv4Address")
    ipv6_address: str = field(name="IPv6Address")


class Network(Struct, kw_only=True, rename="pascal"):
    """GET /networks/{id}."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool = field(name="EnableIPv4")
    enable_ipv6: bool = field(name="EnableIPv6")
    ipam: Ipam = field(name="IPAM")
    internal: bool
    attachable: bool
    ingress: bool
    config_from: ConfigReference = field(default_factory=ConfigReference)
    config_only: bool = False
    containers: dict[str, Member]
    options: dict[str, str]
    labels: dict[str, str]


class CreateRequest(Struct, kw_only=True, rename="pascal"):
    """POST /networks/create."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = field(name="EnableIPv6", default=None)
    ipam: Ipam | None = field(name="IPAM", default=None)
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class CreateResponse(Struct, kw_only=True, rename="pascal"):
    """The new network."""

    id: str
    warning: str = ""


class ConnectRequest(Struct, kw_only=True, rename="pascal"):
    """POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class DisconnectRequest(Struct, kw_only=True, rename="pascal"):
    """POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False


class PruneReport(Struct, kw_only=True, rename="pascal"):
    """POST /networks/prune."""

    networks_deleted: list[str] | None
