"""The engine's nftables table: NAT to the outside, published ports, isolation between its networks.

`build_ruleset` is pure and describes everything; `Firewall` loads it in one atomic batch when networks change
and adds or removes single map elements when a container starts or ends. The table's name carries the default
bridge's name, so that several engines on one machine do not meet.

    raw         a packet for 127.0.0.0/8 from a bridge is dropped (route_localnet below would let it in)
    prerouting  destination is this machine: look the service up in `ports_on` (address, protocol, port), then `ports`
    output      the same for connections that this machine makes to itself
    forward     into a bridge from anywhere else, other bridges included: only replies and translated connections
    postrouting out of a bridge's subnet by another interface: masquerade; a container to its own published
                port, and 127.0.0.1 to a container: masquerade, so that replies come back this way
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.kernel.netlink import nftables as nft

R0 = nft.NFT_REG32_00
R1 = R0 + 1
R2 = R0 + 2
R4 = R0 + 4
PORTS = "ports"
PORTS_ON = "ports_on"
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeNetwork:
    """What the firewall knows of a network."""

    bridge: str
    subnet: str
    masquerade: bool = True
    internal: bool = False
    icc: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """One port of this machine that leads into a container. `host_ip` "0.0.0.0" = every address."""

    host_ip: str
    host_port: int
    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Expressions of one rule in one chain."""

    chain: str
    expressions: tuple[bytes, ...]


CHAINS = (
    ("raw", "filter", nft.NF_INET_PRE_ROUTING, -300),
    ("prerouting", "nat", nft.NF_INET_PRE_ROUTING, -100),
    ("output", "nat", nft.NF_INET_LOCAL_OUT, -100),
    ("forward", "filter", nft.NF_INET_FORWARD, 0),
    ("postrouting", "nat", nft.NF_INET_POST_ROUTING, 100),
)


def _from(bridge: str, operator: int = nft.NFT_CMP_EQ) -> tuple[bytes, bytes]:
    name = nft.interface_name(bridge)
    return nft.load_meta(nft.NFT_META_IIFNAME, R4), nft.compare(R4, name, operator)


def _into(bridge: str, operator: int = nft.NFT_CMP_EQ) -> tuple[bytes, bytes]:
    name = nft.interface_name(bridge)
    return nft.load_meta(nft.NFT_META_OIFNAME, R4), nft.compare(R4, name, operator)


def _address_in(subnet: str, offset: int) -> tuple[bytes, ...]:
    network = ipaddress.IPv4Network(subnet)
    return (
        nft.load_payload(1, offset, 4, R0),
        nft.mask_register(R0, network.netmask.packed),
        nft.compare(R0, network.network_address.packed),
    )


def _source_in(subnet: str) -> tuple[bytes, ...]:
    return _address_in(subnet, 12)


def _destination_in(subnet: str) -> tuple[bytes, ...]:
    return _address_in(subnet, 16)


def _translate() -> Iterable[tuple[bytes, ...]]:
    local = (nft.load_fib_daddr_type(R0), nft.compare(R0, struct.pack("=I", nft.RTN_LOCAL)))
    yield (
        *local,
        nft.load_payload(1, 16, 4, R0),
        nft.load_meta(nft.NFT_META_L4PROTO, R1),
        nft.load_payload(2, 2, 2, R2),
        nft.look_up(PORTS_ON, R0, R0),
        nft.translate_destination(R0, R1),
    )
    yield (
        *local,
        nft.load_meta(nft.NFT_META_L4PROTO, R0),
        nft.load_payload(2, 2, 2, R1),
        nft.look_up(PORTS, R0, R0),
        nft.translate_destination(R0, R1),
    )


def _connection(key: int, bits: int) -> tuple[bytes, ...]:
    mask = struct.pack("=I", bits)
    return (
        nft.load_ct(key, R0),
        nft.mask_register(R0, mask),
        nft.compare(R0, bytes(4), nft.NFT_CMP_NEQ),
    )


def build_ruleset(networks: Iterable[BridgeNetwork]) -> tuple[Rule, ...]:
    """All rules, in order."""
    networks = tuple(networks)
    accept, drop = nft.verdict(nft.NF_ACCEPT), nft.verdict(nft.NF_DROP)
    rules = [
        Rule("raw", (*_from(network.bridge), *_destination_in("127.0.0.0/8"), drop))
        for network in networks
    ]
    rules += [
        Rule(chain, expressions)
        for chain in ("prerouting", "output")
        for expressions in _translate()
    ]
    rules.append(
        Rule(
            "forward",
            (
                *_connection(nft.NFT_CT_STATE, nft.CT_STATE_ESTABLISHED | nft.CT_STATE_RELATED),
                accept,
            ),
        )
    )
    for network in networks:
        inside, outside = network.bridge, nft.NFT_CMP_NEQ
        if not network.icc:
            rules.append(Rule("forward", (*_from(inside), *_into(inside), drop)))
        if network.internal:
            rules += [
                Rule("forward", (*_from(inside), *_into(inside, outside), drop)),
                Rule("forward", (*_into(inside), *_from(inside, outside), drop)),
            ]
            continue
        entering = (*_into(inside), *_from(inside, outside))
        rules.append(
            Rule("forward", (*entering, *_connection(nft.NFT_CT_STATUS, nft.IPS_DST_NAT), accept))
        )
        rules.append(Rule("forward", (*entering, drop)))
    for network in networks:
        if network.internal:
            continue
        if network.masquerade:
            leaving = (*_source_in(network.subnet), *_into(network.bridge, nft.NFT_CMP_NEQ))
            rules.append(Rule("postrouting", (*leaving, nft.masquerade())))
        for source in (network.subnet, "127.0.0.0/8"):
            hairpin = (*_source_in(source), *_into(network.bridge))
            dnat = _connection(nft.NFT_CT_STATUS, nft.IPS_DST_NAT)
            rules.append(Rule("postrouting", (*hairpin, *dnat, nft.masquerade())))
    return tuple(rules)


def _element(port: PublishedPort) -> tuple[str, bytes, bytes]:
    service = nft.pack_service(PROTOCOLS[port.protocol], port.host_port)
    target = nft.pack_target(port.address, port.port)
    if port.host_ip in {"", "0.0.0.0"}:
        return PORTS, service, target
    return PORTS_ON, ipaddress.IPv4Address(port.host_ip).packed + service, target


class Firewall:
    """One engine's table in the kernel of the namespace where the engine runs."""

    def __init__(self, default_bridge: str) -> None:
        """`default_bridge` makes the table's name unique on the machine."""
        self.table = f"wherry-{default_bridge}"

    def load(self, networks: Iterable[BridgeNetwork], ports: Iterable[PublishedPort]) -> None:
        """Replaces the whole table atomically. Raises OSError."""
        networks = tuple(networks)
        service = nft.concatenate_types(nft.TYPE_INET_PROTO, nft.TYPE_INET_SERVICE)
        service_on = nft.concatenate_types(
            nft.TYPE_IPV4_ADDR, nft.TYPE_INET_PROTO, nft.TYPE_INET_SERVICE
        )
        target = nft.concatenate_types(nft.TYPE_IPV4_ADDR, nft.TYPE_INET_SERVICE)
        with nft.Nftables() as tables:
            tables.begin()
            tables.add_table(self.table)
            tables.delete_table(self.table)
            tables.add_table(self.table)
            for name, key, size in ((PORTS, service, 8), (PORTS_ON, service_on, 12)):
                tables.add_map(
                    self.table, name, key_type=key, key_bytes=size, data_type=target, data_bytes=8
                )
            for chain, kind, hook, priority in CHAINS:
                tables.add_chain(self.table, chain, kind=kind, hook=hook, priority=priority)
            for rule in build_ruleset(networks):
                tables.add_rule(self.table, rule.chain, rule.expressions)
            for port in ports:
                tables.add_element(self.table, *_element(port))
            tables.commit()

    def publish(self, ports: Iterable[PublishedPort]) -> None:
        """Adds the ports, all or none. Raises OSError."""
        with nft.Nftables() as tables:
            tables.begin()
            for port in ports:
                tables.add_element(self.table, *_element(port))
            tables.commit()

    def withdraw(self, ports: Iterable[PublishedPort]) -> None:
        """Removes the ports that are there; idempotent."""
        with nft.Nftables() as tables:
            for port in ports:
                name, key, _ = _element(port)
                tables.begin()
                tables.delete_element(self.table, name, key)
                try:
                    tables.commit()
                except FileNotFoundError:
                    continue

    def unload(self) -> None:
        """Removes the table; idempotent."""
        with nft.Nftables() as tables:
            tables.begin()
            tables.add_table(self.table)
            tables.delete_table(self.table)
            tables.commit()

    def pass_docker(self, bridge: str) -> None:
        """Lets the bridge's traffic through Docker's own filter, whose FORWARD policy is drop.

        Docker reserves the chain DOCKER-USER for this. Nothing happens on a machine without it.
        """
        mark = b"wherry:" + bridge.encode()
        with nft.Nftables() as tables:
            if ("filter", "DOCKER-USER") not in tables.chains():
                return
            marks = tables.rule_marks("filter", "DOCKER-USER")
            directions = ((mark + b":out", _from(bridge)), (mark + b":in", _into(bridge)))
            for name, match in directions:
                if name not in marks:
                    tables.begin()
                    rule = (*match, nft.verdict(nft.NF_ACCEPT))
                    tables.add_rule("filter", "DOCKER-USER", rule, first=True, mark=name)
                    tables.commit()
