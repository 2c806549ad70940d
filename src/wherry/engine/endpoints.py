"""What may be asked of an endpoint, and Docker's complaints about it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from wherry.model.container import EndpointConfig
from wherry.model.errors import InvalidArgument
from wherry.model.network import Ipam, Network

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
_NO_ALIASES = "network-scoped alias is supported only for containers in user defined networks"
_NO_ADDRESS = "user specified IP address is supported on user defined networks only"
_NO_SUBNET = (
    "user specified IP address is supported only when connecting to networks with user configured"
    " subnets"
)


def check_endpoint(
    config: EndpointConfig, name: str, network: Network | None, *, naming: bool = False
) -> None:
    """Raises InvalidArgument with all that is wrong; of a network that is not there, only its name is known.

    `naming` puts the network's name in front, as `create` does.
    """
    complaints = list(_complain(config, name, network))
    if not complaints:
        return
    prefix = f"invalid config for network {name}: " if naming else ""
    star = "* " if len(complaints) > 1 else ""
    listed = "".join(f"\n{star}{complaint}" for complaint in complaints)
    raise InvalidArgument(f"{prefix}invalid endpoint settings:{listed}")


def _complain(config: EndpointConfig, name: str, network: Network | None) -> Iterator[str]:
    asked = [address for address in (config.ipv4_address, config.ipv6_address) if address]
    if name in PREDEFINED:
        if asked:
            yield _NO_ADDRESS
        if config.aliases:
            yield _NO_ALIASES
    for text, family in ((config.ipv4_address, 4), (config.ipv6_address, 6)):
        if text and (not _is_given(text) or ipaddress.ip_address(text).version != family):
            yield f"invalid IPv{family} address: {text}"
    for text in config.link_local_ips:
        if text and not _is_given(text):
            yield f"invalid link-local IP address: {text}"
    if network is not None and asked:
        if network.predefined or not network.has_own_subnet:
            yield _NO_SUBNET
        else:
            for address in asked:
                if _is_given(address) and not _is_within(network.ipam, address):
                    yield f"no configured subnet or ip-range contain the IP address {address}"


def find_link_local(config: EndpointConfig) -> tuple[str, ...]:
    """The link-local addresses that an endpoint gets besides its own. Raises InvalidArgument."""
    found = []
    for text in filter(None, config.link_local_ips):
        address = ipaddress.ip_address(text)
        if not address.is_link_local:
            raise InvalidArgument(f"invalid link local IP address: {text}")
        found.append(f"{address}/{16 if address.version == 4 else 64}")
    return tuple(found)


def _is_given(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def _is_within(ipam: Ipam, address: str) -> bool:
    wanted = ipaddress.ip_address(address)
    return any(
        wanted in ipaddress.ip_network(config.subnet, strict=False) for config in ipam.config
    )
