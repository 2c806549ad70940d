"""Networks: the Engine API's JSON ↔ model records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import UNSET

from wherry.model.container import Endpoint, EndpointConfig
from wherry.model.network import Ipam, IpamConfig, Network, NetworkMember
from wherry.wire import networks as wire


def parse_endpoint(settings: wire.EndpointSettings) -> EndpointConfig:
    """What was asked of an endpoint. Addresses that the client repeats from an inspect are ignored."""
    ipam = settings.ipam_config or wire.EndpointIpamConfig()
    return EndpointConfig(
        ipv4_address=ipam.ipv4_address or "",
        ipv6_address=ipam.ipv6_address or "",
        link_local_ips=tuple(ipam.link_local_ips or ()),
        aliases=None if settings.aliases is None else tuple(settings.aliases),
        links=tuple(settings.links or ()),
        mac_address=settings.mac_address,
        driver_opts=settings.driver_opts or {},
        gw_priority=settings.gw_priority,
    )


def build_endpoint(config: EndpointConfig, endpoint: Endpoint | None) -> wire.EndpointSettings:
    """An endpoint as inspect shows it; `endpoint` is what it has while the container runs."""
    settings = wire.EndpointSettings(
        ipam_config=_build_endpoint_ipam(config),
        links=list(config.links) or None,
        aliases=list(config.aliases) if config.aliases else None,
        mac_address=config.mac_address,
        driver_opts=dict(config.driver_opts) or None,
        gw_priority=config.gw_priority,
    )
    if endpoint is not None:
        settings.network_id = endpoint.network_id
        settings.endpoint_id = endpoint.endpoint_id
        settings.gateway = endpoint.gateway
        settings.ip_address = endpoint.ip_address
        settings.ip_prefix_len = endpoint.ip_prefix_len
        settings.ipv6_gateway = endpoint.ipv6_gateway
        settings.global_ipv6_address = endpoint.global_ipv6_address
        settings.global_ipv6_prefix_len = endpoint.global_ipv6_prefix_len
        settings.mac_address = endpoint.mac_address or config.mac_address
        settings.dns_names = list(endpoint.dns_names) if endpoint.dns_names else None
    return settings


def _build_endpoint_ipam(config: EndpointConfig) -> wire.EndpointIpamConfig | None:
    if not (config.ipv4_address or config.ipv6_address or config.link_local_ips):
        return None
    return wire.EndpointIpamConfig(
        ipv4_address=config.ipv4_address or UNSET,
        ipv6_address=config.ipv6_address or UNSET,
        link_local_ips=list(config.link_local_ips) or UNSET,
    )


def parse_ipam(ipam: wire.Ipam | None) -> Ipam:
    """Where a new network's addresses shall come from."""
    if ipam is None:
        return Ipam()
    return Ipam(
        driver=ipam.driver or "default",
        options=ipam.options,
        config=tuple(
            IpamConfig(
                subnet=config.subnet or "",
                ip_range=config.ip_range or "",
                gateway=config.gateway or "",
                auxiliary_addresses=config.auxiliary_addresses or {},
            )
            for config in ipam.config or ()
        ),
    )


def build_network(network: Network, members: Iterable[NetworkMember] = ()) -> wire.Network:
    """GET /networks/{id}; lists show no members."""
    return wire.Network(
        name=network.name,
        id=network.id,
        created=network.created,
        scope=network.scope,
        driver=network.driver,
        enable_ipv4=network.enable_ipv4,
        enable_ipv6=network.enable_ipv6,
        ipam=wire.Ipam(
            driver=network.ipam.driver,
            options=_copy(network.ipam.options),
            config=[
                wire.IpamConfig(
                    subnet=config.subnet or UNSET,
                    ip_range=config.ip_range or UNSET,
                    gateway=config.gateway or UNSET,
                    auxiliary_addresses=dict(config.auxiliary_addresses) or UNSET,
                )
                for config in network.ipam.config
            ]
            or None,
        ),
        internal=network.internal,
        attachable=network.attachable,
        ingress=network.ingress,
        containers={
            member.container_id: wire.Member(
                name=member.name,
                endpoint_id=member.endpoint_id,
                mac_address=member.mac_address,
                ipv4_address=member.ipv4_address,
                ipv6_address=member.ipv6_address,
            )
            for member in members
        },
        options=dict(network.options),
        labels=dict(network.labels),
    )


def _copy(options: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if options is None else dict(options)
