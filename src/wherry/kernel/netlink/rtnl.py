"""rtnetlink(7): links, addresses, routes and neighbours, as far as container networks need them.

Requests are queued and go out together with `flush()`. Names of constants are the kernel's.
"""

import ipaddress
import struct

from wherry.kernel.netlink.codec import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    decode_attributes,
    encode_attribute,
    encode_string,
    encode_u32,
)
from wherry.kernel.netlink.socket import NetlinkSocket

NETLINK_ROUTE = 0

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_TXQLEN = 13
IFLA_LINKINFO = 18
IFLA_NET_NS_PID = 19
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_BR_STP_STATE = 5
VETH_INFO_PEER = 1

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_FLAGS = 8
IFA_F_NODAD = 0x02

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RTN_UNICAST = 1

IFF_UP = 1
LOOPBACK_INDEX = 1  # of lo, in every network namespace
AF_UNSPEC = 0
AF_INET = 2
AF_INET6 = 10

_IFINFOMSG = struct.Struct("=BBHiII")
_IFADDRMSG = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")

CREATE = NLM_F_CREATE | NLM_F_EXCL


class Link:
    """One network interface."""

    __slots__ = ("flags", "index", "kind", "mac", "master", "mtu", "name")

    def __init__(
        self, index: int, name: str, flags: int, mac: str, mtu: int, master: int, kind: str
    ) -> None:
        """`mac` in colon form, `mtu` in bytes, `master` an index or 0, `kind` "veth", "bridge"…"""
        self.index = index
        self.name = name
        self.flags = flags
        self.mac = mac
        self.mtu = mtu
        self.master = master
        self.kind = kind


def parse_mac(text: str) -> bytes:
    """Six bytes from "02:42:ac:11:00:02". Raises ValueError."""
    octets = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if len(octets) != 6:
        raise ValueError(f"{text} is not a MAC address")
    return octets


class Rtnl(NetlinkSocket):
    """A NETLINK_ROUTE socket of the calling thread's network namespace."""

    def __init__(self) -> None:
        """Raises OSError."""
        super().__init__(NETLINK_ROUTE)

    def add_bridge(self, name: str, *, mac: str = "") -> None:
        """Queues a new bridge, up, without spanning tree (so that ports forward at once)."""
        data = encode_attribute(IFLA_INFO_DATA, encode_u32(IFLA_BR_STP_STATE, 0))
        info = encode_attribute(IFLA_LINKINFO, encode_string(IFLA_INFO_KIND, "bridge") + data)
        address = encode_attribute(IFLA_ADDRESS, parse_mac(mac)) if mac else b""
        head = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, IFF_UP, IFF_UP)
        body = head + encode_string(IFLA_IFNAME, name) + address + info
        self.queue(RTM_NEWLINK, CREATE, body, f"bridge {name}")

    def add_veth(
        self,
        name: str,
        peer: str,
        *,
        peer_pid: int = 0,
        master: int = 0,
        mtu: int = 0,
        peer_mac: str = "",
    ) -> None:
        """Queues a veth pair: `name` here, up and a port of `master`; `peer` in the network
        namespace of process `peer_pid` (0: here), down, with `peer_mac`."""
        size = encode_u32(IFLA_TXQLEN, 0) + (encode_u32(IFLA_MTU, mtu) if mtu else b"")
        peer_body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, 0, 0) + encode_string(IFLA_IFNAME, peer)
        peer_body += size
        if peer_pid:
            peer_body += encode_u32(IFLA_NET_NS_PID, peer_pid)
        if peer_mac:
            peer_body += encode_attribute(IFLA_ADDRESS, parse_mac(peer_mac))
        data = encode_attribute(IFLA_INFO_DATA, encode_attribute(VETH_INFO_PEER, peer_body))
        body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, IFF_UP, IFF_UP)
        body += encode_string(IFLA_IFNAME, name) + size
        if master:
            body += encode_u32(IFLA_MASTER, master)
        body += encode_attribute(IFLA_LINKINFO, encode_string(IFLA_INFO_KIND, "veth") + data)
        self.queue(RTM_NEWLINK, CREATE, body, f"veth {name}")

    def set_up(self, index: int) -> None:
        """Queues IFF_UP for an interface."""
        body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, index, IFF_UP, IFF_UP)
        self.queue(RTM_NEWLINK, 0, body, f"interface {index}")

    def set_address(self, index: int, mac: str) -> None:
        """Queues the hardware address of an interface, which must be down."""
        body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, index, 0, 0)
        body += encode_attribute(IFLA_ADDRESS, parse_mac(mac))
        self.queue(RTM_NEWLINK, 0, body, f"interface {index}")

    def move_link(self, index: int, *, pid: int, name: str = "") -> None:
        """Queues the move of an interface into the network namespace of a process."""
        body = _IFINFOMSG.pack(AF_UNSPEC, 0, 0, index, 0, 0) + encode_u32(IFLA_NET_NS_PID, pid)
        if name:
            body += encode_string(IFLA_IFNAME, name)
        self.queue(RTM_NEWLINK, 0, body, f"interface {index}")

    def delete_link(self, index: int) -> None:
        """Queues the end of an interface. A veth goes sooner with its network namespace (28 ms here)."""
        self.queue(
            RTM_DELLINK, 0, _IFINFOMSG.pack(AF_UNSPEC, 0, 0, index, 0, 0), f"interface {index}"
        )

    def add_address(self, index: int, address: str, *, replace: bool = False) -> None:
        """Queues an address ("172.17.0.2/16", IPv6 too, without duplicate address detection)."""
        interface = ipaddress.ip_interface(address)
        packed = interface.ip.packed
        family = AF_INET if interface.version == 4 else AF_INET6
        body = _IFADDRMSG.pack(family, interface.network.prefixlen, 0, 0, index)
        body += encode_attribute(IFA_LOCAL, packed) + encode_attribute(IFA_ADDRESS, packed)
        if family == AF_INET6:
            body += encode_u32(IFA_FLAGS, IFA_F_NODAD)
        elif interface.network.prefixlen < 31:
            body += encode_attribute(IFA_BROADCAST, interface.network.broadcast_address.packed)
        flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
        self.queue(RTM_NEWADDR, flags, body, f"address {address}")

    def delete_address(self, index: int, address: str) -> None:
        """Queues the end of an address."""
        interface = ipaddress.ip_interface(address)
        family = AF_INET if interface.version == 4 else AF_INET6
        body = _IFADDRMSG.pack(family, interface.network.prefixlen, 0, 0, index)
        body += encode_attribute(IFA_LOCAL, interface.ip.packed)
        self.queue(RTM_DELADDR, 0, body, f"address {address}")

    def add_default_route(self, index: int, gateway: str, *, replace: bool = False) -> None:
        """Queues the default route by way of `gateway`, an address on that interface's link."""
        address = ipaddress.ip_address(gateway)
        family = AF_INET if address.version == 4 else AF_INET6
        body = _RTMSG.pack(
            family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
        )
        body += encode_attribute(RTA_GATEWAY, address.packed) + encode_u32(RTA_OIF, index)
        flags = NLM_F_CREATE | NLM_F_REPLACE if replace else CREATE
        self.queue(RTM_NEWROUTE, flags, body, f"default route by {gateway}")

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        found = []
        for body in self.dump(RTM_GETLINK, _IFINFOMSG.pack(AF_UNSPEC, 0, 0, 0, 0, 0)):
            _, _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
            attributes = decode_attributes(body[_IFINFOMSG.size :])
            info = decode_attributes(attributes.get(IFLA_LINKINFO, b""))
            found.append(
                Link(
                    index,
                    attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
                    flags,
                    attributes.get(IFLA_ADDRESS, b"").hex(":"),
                    int.from_bytes(attributes.get(IFLA_MTU, b""), "little"),
                    int.from_bytes(attributes.get(IFLA_MASTER, b""), "little"),
                    info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
                )
            )
        return found

    def find_link(self, name: str) -> Link | None:
        """The interface of that name, or None."""
        return next((link for link in self.links() if link.name == name), None)

    def addresses(self, index: int = 0) -> list[str]:
        """Addresses with prefix lengths of one interface, or of all (0)."""
        found = []
        for body in self.dump(RTM_GETADDR, _IFADDRMSG.pack(AF_UNSPEC, 0, 0, 0, 0)):
            _, prefix, _, _, owner = _IFADDRMSG.unpack_from(body)
            attributes = decode_attributes(body[_IFADDRMSG.size :])
            packed = attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS))
            if packed is not None and index in {0, owner}:
                found.append(f"{ipaddress.ip_address(packed)}/{prefix}")
        return found

    def routes(self) -> list[tuple[str, int]]:
        """(destination in CIDR form, interface index) of the routes of both main tables."""
        found = []
        empty = _RTMSG.pack(AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in self.dump(RTM_GETROUTE, empty):
            family, length, _, _, table, _, _, _, _ = _RTMSG.unpack_from(body)
            if table != RT_TABLE_MAIN:
                continue
            attributes = decode_attributes(body[_RTMSG.size :])
            any_address = b"\0" * (4 if family == AF_INET else 16)
            target = ipaddress.ip_address(attributes.get(RTA_DST, any_address))
            index = int.from_bytes(attributes.get(RTA_OIF, b""), "little")
            found.append((f"{target}/{length}", index))
        return found
