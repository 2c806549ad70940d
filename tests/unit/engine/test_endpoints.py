from __future__ import annotations

from dataclasses import replace

import pytest

from wherry.engine.endpoints import (
    check_endpoint,
    find_link_local,
    interface_sysctls,
    name_interfaces,
)
from wherry.model.container import EndpointConfig
from wherry.model.errors import InvalidArgument
from wherry.model.network import Ipam, IpamConfig, Network, NetworkId

OWN_SUBNET = Network(
    id=NetworkId("1"),
    name="n1",
    created="",
    ipam=Ipam(config=(IpamConfig(subnet="10.1.0.0/24"),)),
)
IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
NO_ADDRESS = "user specified IP address is supported on user defined networks only"
NO_ALIASES = "network-scoped alias is supported only for containers in user defined networks"


@pytest.mark.parametrize(
    ("config", "name", "network", "complaints"),
    [
        ({"ipv4_address": "172.17.0.77"}, "bridge", None, f"\n{NO_ADDRESS}"),
        (
            {"ipv4_address": "172.17.0.77", "aliases": ("a",)},
            "bridge",
            None,
            f"\n* {NO_ADDRESS}\n* {NO_ALIASES}",
        ),
        ({"ipv4_address": "::1"}, "n1", None, "\ninvalid IPv4 address: ::1"),
        (
            {"driver_opts": {SYSCTLS: "net.ipv4.conf.IFNAME.x=1,net.ipv4.conf.eth0.x=1"}},
            "n1",
            None,
            (
                "\nunrecognised network interface sysctl 'net.ipv4.conf.eth0.x=1'; represent"
                " 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            ),
        ),
        ({"driver_opts": {IFNAME: "a/b"}}, "n1", None, "\ninvalid interface name: a/b"),
        ({"driver_opts": {IFNAME: "x" * 16}}, "n1", None, f"\ninvalid interface name: {'x' * 16}"),
        ({"link_local_ips": ("x",)}, "n1", None, "\ninvalid link-local IP address: x"),
        ({"link_local_ips": ("0.0.0.0",)}, "n1", None, "\ninvalid link-local IP address: 0.0.0.0"),
        (
            {"ipv4_address": "10.2.0.1"},
            "n1",
            OWN_SUBNET,
            "\nno configured subnet or ip-range contain the IP address 10.2.0.1",
        ),
    ],
)
def test_what_cannot_be_asked(
    config: dict[str, object], name: str, network: Network | None, complaints: str
) -> None:
    asked = EndpointConfig(**config)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as caught:
        check_endpoint(asked, name, network)
    assert str(caught.value) == f"invalid endpoint settings:{complaints}"
    with pytest.raises(InvalidArgument, match=f"^invalid config for network {name}: invalid end"):
        check_endpoint(asked, name, network, naming=True)


def test_what_can() -> None:
    check_endpoint(EndpointConfig(aliases=("a",), ipv4_address="10.1.0.9"), "n1", OWN_SUBNET)


def test_link_local_addresses() -> None:
    config = EndpointConfig(link_local_ips=("169.254.7.7", "fe80::161"))
    assert find_link_local(config) == ("169.254.7.7/16", "fe80::161/64")
    with pytest.raises(InvalidArgument, match=r"^invalid link local IP address: 169\.253\.5\.5$"):
        find_link_local(EndpointConfig(link_local_ips=("169.253.5.5",)))


def test_names_of_interfaces() -> None:
    prefixed = replace(OWN_SUBNET, options={"com.docker.network.container_iface_prefix": "lan"})
    found = {"a": OWN_SUBNET, "b": OWN_SUBNET, "c": prefixed, "d": OWN_SUBNET}
    asked = {name: EndpointConfig() for name in found}
    asked["b"] = EndpointConfig(driver_opts={IFNAME: "eth0"})
    names = name_interfaces(asked, found.__getitem__)
    assert names == {"a": "eth1", "b": "eth0", "c": "lan0", "d": "eth2"}
    asked["a"] = asked["b"]
    with pytest.raises(InvalidArgument, match="interface name eth0 is asked for by two networks"):
        name_interfaces(asked, found.__getitem__)


def test_settings_of_an_interface() -> None:
    text = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.a/b=x=y"
    assert interface_sysctls(EndpointConfig(driver_opts={SYSCTLS: text})) == (
        "net/ipv4/conf/IFNAME/log_martians=1",
        "net/ipv6/neigh/IFNAME/a/b=x=y",
    )
    assert interface_sysctls(EndpointConfig()) == ()
