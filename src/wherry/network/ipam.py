"""Addresses of one network, and pools for new networks. Pure: knows nothing of interfaces or storage.

Addresses are handed out in turn rather than lowest first, so that an address that was just freed is not
soon another container's (neighbour caches and clients still hold it).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable

from wherry.model.errors import Conflict, InvalidArgument

# Docker's predefined pools; the default bridge takes the first that no route of the machine meets.
DEFAULT_POOLS = (
    *(f"172.{second}.0.0/16" for second in range(17, 32)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
)


class AddressPool:
    """The addresses of one IPv4 subnet that are in use right now (in memory only)."""

    def __init__(
        self, subnet: str, *, gateway: str = "", ip_range: str = "", reserved: Iterable[str] = ()
    ) -> None:
        """Raises InvalidArgument when the parts do not fit each other."""
        try:
            self.network = ipaddress.IPv4Network(subnet)
        except ValueError as exc:
            raise InvalidArgument(f"invalid subnet {subnet}: {exc}") from exc
        chosen = ipaddress.IPv4Network(ip_range) if ip_range else self.network
        if not chosen.subnet_of(self.network):
            raise InvalidArgument(f"invalid ip-range {ip_range}: not in subnet {subnet}")
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


def build_mac() -> str:
    """A random, locally administered unicast MAC address."""
    octets = bytearray(os.urandom(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")
