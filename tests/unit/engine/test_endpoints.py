from __future__ import annotations

import pytest

from wherry.engine.endpoints import check_endpoint, find_link_local
from wherry.model.container import EndpointConfig
from wherry.model.errors import InvalidArgument
from wherry.model.network import Ipam, IpamConfig, Network, NetworkId

OWN_SUBNET = Network(
    id=NetworkId("1"),
    name="n1",
    created="",
    ipam=Ipam(config=(IpamConfig(subnet="10.1.0.0/24"),)),
)
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
