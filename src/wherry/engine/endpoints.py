"""What may be asked of an endpoint, and Docker's complaints about it. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping

from wherry.engine.settings import EngineSettings
from wherry.model.container import EndpointConfig
from wherry.model.errors import InvalidArgument
from wherry.model.network import Ipam, Network
from wherry.runtime.interface import free_name

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
_NO_ALIASES = "network-scoped alias is supported only for containers in user defined networks"
_NO_ADDRESS = "user specified IP address is supported on user defined networks only"
_NO_SUBNET = (
    "user specified IP address is supported only when connecting to networks with user configured"
    " subnets"
)
_IFNAME = "com.docker.network.endpoint.ifname"
_SYSCTLS = "com.docker.network.endpoint.sysctls"
_IFACE_PREFIX = "com.docker.network.container_iface_prefix"
_INTERFACE = re.compile(r"(?!\.{1,2}\Z)[^/:\s]{1,15}\Z")


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
    for text in config.driver_opts.get(_SYSCTLS, "").split(","):
        if text and not _is_sysctl(text):
            yield (
                f"unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as"
                " 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
    interface = interface_name(config)
    if interface and not _INTERFACE.match(interface):
        yield f"invalid interface name: {interface}"
    if network is not None and asked:
        if network.predefined or not network.has_own_subnet:
            yield _NO_SUBNET
        else:
            for address in asked:
                if _is_given(address) and not _is_within(network.ipam, address):
                    yield f"no configured subnet or ip-range contain the IP address {address}"


def host_gateway(settings: EngineSettings, bridge: Network) -> str:
    """What `host-gateway` stands for: this machine on the default bridge, whatever network asks."""
    own = [pool.gateway for pool in bridge.ipam.config if pool.gateway]
    return next(iter((*settings.host_gateway_ips, *own)), "")


def interface_name(config: EndpointConfig) -> str:
    """The name that an endpoint's interface is to have in the container, or ""."""
    return config.driver_opts.get(_IFNAME, "")


def interface_prefix(network: Network) -> str:
    """What the names of interfaces on the network begin with where no name is asked for."""
    return network.options.get(_IFACE_PREFIX, "") or "eth"


def name_interfaces(
    networks: Mapping[str, EndpointConfig], find: Callable[[str], Network]
) -> dict[str, str]:
    """The names of a container's interfaces by network. Raises InvalidArgument, NoSuchNetwork."""
    names = {network: interface_name(config) for network, config in networks.items()}
    taken = [name for name in names.values() if name]
    for name in taken:
        if taken.count(name) > 1:
            raise InvalidArgument(f"interface name {name} is asked for by two networks")
    for network, name in names.items():
        if not name:
            names[network] = free_name(interface_prefix(find(network)), taken)
            taken.append(names[network])
    return names


def interface_sysctls(config: EndpointConfig) -> tuple[str, ...]:
    """`net/ipv4/conf/IFNAME/forwarding=0`: paths below /proc/sys and values, for the interface's own name."""
    found = []
    for text in filter(None, config.driver_opts.get(_SYSCTLS, "").split(",")):
        name, _, value = text.partition("=")
        net, family, group, _, rest = name.split(".", 4)
        found.append(f"{net}/{family}/{group}/IFNAME/{rest.replace('.', '/')}={value}")
    return tuple(found)


def _is_sysctl(text: str) -> bool:
    words = text.split(".", 4)
    return (
        len(words) == 5
        and words[0] == "net"
        and words[1] in {"ipv4", "ipv6", "mpls"}
        and words[3] in {"IFNAME", "ifname"}  # the docker client writes all in lower case
        and not {"..", ""} & {*words[4].split("=")[0].split("/")}
    )


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
