"""The network namespace from inside: loopback up, interfaces up with their addresses and routes."""

from __future__ import annotations

import _socket
import os

from wherry.kernel.netlink.rtnl import LOOPBACK_INDEX, Rtnl
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError, reason
from wherry.runtime.interface import Interface
from wherry.runtime.steps import Step
from wherry.runtime.steps.paths import open_beneath


class Network(Step):
    """One batch of netlink requests in a new network namespace."""

    __slots__ = ("interfaces",)
    name = "network"
    ahead = True

    def __init__(self, interfaces: tuple[Interface, ...]) -> None:
        self.interfaces = interfaces

    def describe(self) -> str:
        names = ", ".join(interface.name for interface in self.interfaces)
        return f"bring up lo{', ' + names if names else ''}"

    def apply(self, context: Context) -> None:
        with Rtnl() as rtnl:
            rtnl.set_up(LOOPBACK_INDEX)
            for interface in self.interfaces:
                index = _socket.if_nametoindex(interface.name)
                if interface.mac:
                    rtnl.set_address(index, interface.mac)
                for address in interface.addresses:
                    rtnl.add_address(index, address)
                if not any(":" in address for address in interface.addresses):
                    disable_ipv6(context.proc_sys, interface.name)
                write_sysctls(context.proc_sys, interface.name, interface.sysctls)
                rtnl.set_up(index)
                for gateway in (interface.gateway, interface.gateway6):
                    if gateway:
                        rtnl.add_default_route(index, gateway)
            rtnl.flush()


def disable_ipv6(proc_sys: int, name: str) -> None:
    """Else the interface gives itself a link-local address and talks on the network unasked."""
    if proc_sys < 0:
        return
    try:
        fd = open_beneath(proc_sys, f"net/ipv6/conf/{name}/disable_ipv6", os.O_WRONLY)
    except FileNotFoundError:
        return  # a kernel without IPv6
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)


def write_sysctls(proc_sys: int, name: str, sysctls: tuple[str, ...]) -> None:
    """`net/ipv4/conf/IFNAME/forwarding=0`, for the interface. Raises StepError."""
    for sysctl in sysctls:
        path, _, value = sysctl.partition("=")
        path = path.replace("IFNAME", name, 1)
        try:
            fd = open_beneath(proc_sys, path, os.O_WRONLY)
            try:
                os.write(fd, os.fsencode(value))
            finally:
                os.close(fd)
        except OSError as error:
            why = reason(error.errno or 0)
            text = f"unable to write '{value}' to '/proc/sys/{path}': {why}"
            raise StepError(path, text, error.errno or 0) from error


def wire(interfaces: tuple[Interface, ...], pid: int) -> None:
    """In the host's network namespace: a veth per interface, its peer in the namespace of `pid`."""
    if not interfaces:
        return
    with Rtnl() as rtnl:
        for interface in interfaces:
            master = _socket.if_nametoindex(interface.bridge) if interface.bridge else 0
            rtnl.add_veth(
                interface.host_name,
                interface.name,
                peer_pid=pid,
                master=master,
                mtu=interface.mtu,
            )
        rtnl.flush()
