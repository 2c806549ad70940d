"""Addresses of one network, and pools for new networks. Pure: knows nothing of interfaces or storage.

Addresses are handed out in turn rather than lowest first, so that an address that was just freed is not
soon another container's (neighbour caches and clients still hold it).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping

from wherry.model.errors import Conflict, InvalidArgument

# Docker's predefined pools; the default bridge takes the first that no route of the machine meets.
DEFAULT_POOLS = (
    *(f"172.{second}.0.0/16" for second in range(17, 32)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
)


_NO_BLOCK = "invalid CIDR block notation"


class AddressPool:
    """The addresses of one IPv4 subnet that are in use right now (in memory only)."""

    def __init__(
        self, subnet: str, *, gateway: str = "", ip_range: str = "", reserved: Iterable[str] = ()
    ) -> None:
        """Of what `pool_errors` finds nothing wrong with. Raises InvalidArgument without room for a gateway."""
        self.network = ipaddress.IPv4Network(subnet)
        chosen = ipaddress.IPv4Network(ip_range) if ip_range else self.network
        hosts = self.network.num_addresses > 2
        self._first = max(int(chosen.network_address), int(self.network.network_address) + hosts)
        self._last = min(int(chosen.broadcast_address), int(self.network.broadcast_address) - hosts)
        self.gateway = gateway or str(self.network.network_address + 1)
        if ipaddress.IPv4Address(self.gateway) not in self.network:
            raise InvalidArgument(f"invalid gateway {gateway}: not in subnet {subnet}")
        self._used = {int(ipaddress.IPv4Address(address)) for address in (self.gateway, *reserved)}
        self._next = self._first

    def take(self, wanted: str = "") -> str:
        """An address with its prefix length. Raises Conflict when it is taken or none is left."""
        if wanted:
            return self._take_named(wanted)
        size = self._last - self._first + 1
        for step in range(size):
            candidate = self._first + (self._next - self._first + step) % size
            if candidate not in self._used:
                self._used.add(candidate)
                self._next = candidate + 1 if candidate < self._last else self._first
                return f"{ipaddress.IPv4Address(candidate)}/{self.network.prefixlen}"
        raise Conflict("no available IPv4 addresses on this network's address pools")

    def _take_named(self, wanted: str) -> str:
        try:
            address = ipaddress.IPv4Address(wanted)
        except ValueError as exc:
            raise InvalidArgument(f"invalid IPv4 address: {wanted}") from exc
        if address not in self.network:
            raise InvalidArgument(f"no configured subnet contains IP address {wanted}")
        if int(address) in self._used:
            raise Conflict("Address already in use")
        self._used.add(int(address))
        return f"{address}/{self.network.prefixlen}"

    def hold(self, address: str) -> None:
        """Marks an address that a container has already; idempotent."""
        self._used.add(int(ipaddress.IPv4Address(address)))

    def give_back(self, address: str) -> None:
        """Frees an address ("172.17.0.2" or with its prefix length); idempotent."""
        self._used.discard(int(ipaddress.IPv4Address(address.partition("/")[0])))


def find_free_subnet(taken: Iterable[str], pools: Iterable[str] = DEFAULT_POOLS) -> str:
    """The first pool that meets none of the taken subnets. Raises Conflict when none is left."""
    used = [ipaddress.ip_network(text, strict=False) for text in taken]
    used = [network for network in used if network.version == 4 and network.prefixlen]
    for text in pools:
        candidate = ipaddress.IPv4Network(text)
        if not any(
            candidate.overlaps(network)
            for network in used
            if isinstance(network, ipaddress.IPv4Network)
        ):
            return text
    raise Conflict(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )


def build_host_name() -> str:
    """A name for the host's end of a veth pair, as Docker's: seldom one that is taken."""
    return f"veth{os.urandom(4).hex()}"


def pool_errors(
    subnet: str, gateway: str, ip_range: str, auxiliary: Mapping[str, str]
) -> list[str]:
    """What is wrong with a pool that a network asks for (moby api/types/network, ValidateIPAM)."""
    network = _parse_block(subnet)
    if network is None:
        return [f"invalid subnet {subnet}: {_NO_BLOCK}"]
    wrong = []
    if str(network) != str(ipaddress.ip_interface(subnet)):
        wrong.append(f"invalid subnet {subnet}: it should be {network}")
    if ip_range:
        chosen = _parse_block(ip_range)
        detail = ""
        if chosen is None:
            detail = _NO_BLOCK
        elif str(chosen) != str(ipaddress.ip_interface(ip_range)):
            detail = f"it should be {chosen}"
        elif chosen[0] not in network or chosen[-1] not in network:
            detail = f"parent subnet {network} doesn't contain ip-range"
        wrong += [f"invalid ip-range {ip_range}: {detail}"] if detail else []
    named = {f"gateway {gateway}": gateway} if gateway else {}
    named.update({f"auxiliary address {name}": address for name, address in auxiliary.items()})
    for what, address in named.items():
        try:
            inside = ipaddress.ip_address(address) in network
        except ValueError:
            wrong.append(f"invalid {what}: invalid address")
            continue
        if not inside:
            wrong.append(f"invalid {what}: parent subnet {network} doesn't contain this address")
    return wrong


def _parse_block(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def build_mac() -> str:
    """A random, locally administered unicast MAC address."""
    octets = bytearray(os.urandom(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")
