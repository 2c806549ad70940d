"""A container's network interface, as values: made by the engine, applied by the parent and by init.

The parent makes the veth pair with its peer in the container's namespace; init brings the peer up and gives
it its addresses and routes (`wherry.runtime.steps.network`).
"""

from __future__ import annotations

from collections.abc import Container

from wherry.lib.jsonvalue import JsonObject, get_int, get_str, get_strings


class Interface:
    """One interface; `bridge` empty = the host's end joins none; empty gateways = no default route."""

    __slots__ = (
        "addresses",
        "bridge",
        "gateway",
        "gateway6",
        "host_name",
        "index",
        "mac",
        "mtu",
        "name",
        "sysctls",
    )

    def __init__(
        self,
        *,
        name: str = "eth0",
        host_name: str,
        bridge: str = "",
        mac: str = "",
        mtu: int = 0,
        addresses: tuple[str, ...] = (),
        gateway: str = "",
        gateway6: str = "",
        index: int = 0,
        sysctls: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.host_name = host_name
        self.bridge = bridge
        self.mac = mac
        self.mtu = mtu
        self.addresses = addresses
        self.gateway = gateway
        self.gateway6 = gateway6
        self.index = index
        self.sysctls = sysctls


def free_name(prefix: str, taken: Container[str]) -> str:
    """`eth0`, or the first number after the prefix that is not taken."""
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def decode_interface(document: JsonObject) -> Interface:
    """From plain data. Raises JsonError."""
    return Interface(
        name=get_str(document, "name"),
        host_name=get_str(document, "host_name"),
        bridge=get_str(document, "bridge"),
        mac=get_str(document, "mac"),
        mtu=get_int(document, "mtu"),
        addresses=get_strings(document, "addresses"),
        gateway=get_str(document, "gateway"),
        gateway6=get_str(document, "gateway6"),
        sysctls=get_strings(document, "sysctls"),
    )
