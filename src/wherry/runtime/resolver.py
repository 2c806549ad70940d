"""The sockets of a container's resolver: 127.0.0.11 in its network namespace, served by the engine.

They are opened before the program's first instruction, and the shim keeps them, so that questions wait in the
kernel while the engine restarts. The sockets have ports that the kernel chose, and the namespace's own
firewall leads port 53 there: a DNS server in the container may bind 0.0.0.0:53 (docs/decisions/011-resolver.md).
"""

from __future__ import annotations

import os
import socket

from wherry.kernel import syscalls
from wherry.kernel.consts import CLONE
from wherry.kernel.netlink import nftables as nft
from wherry.kernel.netlink.rtnl import LOOPBACK_INDEX, Rtnl

ADDRESS = "127.0.0.11"
PORT = 53

_TABLE = "wherry-resolver"
_CHAIN = "output"
_BACKLOG = 64
_R0 = nft.NFT_REG32_00
_R1 = _R0 + 1


def open_resolver(namespaces: int) -> tuple[int, int]:
    """Descriptors of a UDP and a TCP socket in the network namespace of a pidfd. Raises OSError.

    The caller must have one thread: it enters the namespace for a moment.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(namespaces, CLONE.NEWNET)
        try:
            return _open_sockets()
        finally:
            syscalls.setns(home, CLONE.NEWNET)
    finally:
        os.close(home)


def _open_sockets() -> tuple[int, int]:
    opened = []
    # Without a route to it the address could be bound (IP_FREEBIND), but answers would not come from it.
    with Rtnl() as rtnl:
        rtnl.set_up(LOOPBACK_INDEX)
        rtnl.flush()
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            opened.append(socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK))
            opened[-1].bind((ADDRESS, 0))
        datagrams, streams = opened
        streams.listen(_BACKLOG)
        _redirect(
            (socket.IPPROTO_UDP, datagrams.getsockname()[1]),
            (socket.IPPROTO_TCP, streams.getsockname()[1]),
        )
    except BaseException:
        for item in opened:
            item.close()
        raise
    return datagrams.detach(), streams.detach()


def _redirect(*ports: tuple[int, int]) -> None:
    """Leads 127.0.0.11:53 of each (protocol, port) to that port."""
    with nft.Nftables() as tables:
        tables.begin()
        tables.add_table(_TABLE)
        tables.add_chain(_TABLE, _CHAIN, kind="nat", hook=nft.NF_INET_LOCAL_OUT, priority=-100)
        for protocol, port in ports:
            tables.add_rule(
                _TABLE,
                _CHAIN,
                (
                    nft.load_payload(1, 16, 4, _R0),
                    nft.compare(_R0, socket.inet_aton(ADDRESS)),
                    nft.load_meta(nft.NFT_META_L4PROTO, _R0),
                    nft.compare(_R0, bytes([protocol])),
                    nft.load_payload(2, 2, 2, _R0),
                    nft.compare(_R0, PORT.to_bytes(2, "big")),
                    nft.load_value(_R0, socket.inet_aton(ADDRESS)),
                    nft.load_value(_R1, port.to_bytes(2, "big")),
                    nft.translate_destination(_R0, _R1),
                ),
            )
        tables.commit()
