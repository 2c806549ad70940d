"""Published ports: the grammar of ranges, and the reservation of a port of this machine.

A reservation is a bound socket that never listens: it makes other programs' and engines' binds fail as they
should, and the firewall leads connections into the container before they could reach it.
"""

from __future__ import annotations

import errno
import socket

from wherry.model.errors import Conflict, Internal, InvalidArgument

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def parse_container_port(text: str) -> tuple[int, str]:
    """(port, protocol) from "80/tcp" or "80". Raises InvalidArgument."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if not number.isdecimal() or not 0 < int(number) < 65536:
        raise InvalidArgument(f"invalid port specification: {text!r}")
    if protocol not in {"tcp", "udp", "sctp"}:
        raise InvalidArgument(f"invalid proto: {protocol}")
    return int(number), protocol


def parse_port_range(text: str) -> tuple[int, int]:
    """(first, last) from "8080" or "8000-8010"; (0, 0) from "" or "0". Raises InvalidArgument.

    A protocol after the number ("8080/udp") means nothing, as in dockerd: the container's port has it.
    """
    text = text.partition("/")[0]
    if not text or text == "0":
        return 0, 0
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise InvalidArgument(f"invalid port specification: {text!r}")
    bounds = int(first), int(last or first)
    if not 0 < bounds[0] <= bounds[1] < 65536:
        raise InvalidArgument(f"invalid port specification: {text!r}")
    return bounds


def reserve_port(host_ip: str, host_port: str, protocol: str) -> tuple[int, socket.socket | None]:
    """Binds a port of this machine: a given one, one of a range, or an ephemeral one.

    Returns the port and the socket that holds it. Raises Conflict when it is taken.
    """
    first, last = parse_port_range(host_port)
    address = host_ip or "0.0.0.0"
    for port in range(first, last + 1):
        try:
            return _bind(address, port, protocol)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise Internal(
                    f"failed to bind host port for {address}:{port}/{protocol}: {exc.strerror}"
                ) from exc
            if port == last:
                raise Conflict(
                    f"Bind for {address}:{port} failed: port is already allocated"
                ) from exc
    raise Conflict(f"Bind for {address}:{host_port} failed: port is already allocated")


def _bind(address: str, port: int, protocol: str) -> tuple[int, socket.socket | None]:
    kind = _KINDS.get(protocol)
    if kind is None:
        return port, None
    holder = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    try:
        holder.bind((address, port))
    except OSError:
        holder.close()
        raise
    return int(holder.getsockname()[1]), holder
