"""Gives a running container an interface, or takes one away: the part that must be in its network namespace.

Runs in a worker process, which may join the namespace without the engine's threads following.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from wherry.kernel import syscalls
from wherry.kernel.consts import CLONE
from wherry.kernel.netlink.rtnl import Link, Rtnl
from wherry.lib.jsonvalue import JsonObject, JsonValue, get_int, get_str, get_strings
from wherry.runtime.interface import free_name
from wherry.runtime.steps.network import disable_ipv6, write_sysctls

Report = Callable[[JsonValue], None]


def attach(arguments: JsonValue, report: Report) -> JsonValue:
    """Makes a veth pair between a bridge and the namespace `netns` of process `pid`; answers its name there."""
    del report
    assert isinstance(arguments, dict)
    with Rtnl() as outside:
        bridge = outside.find_link(get_str(arguments, "bridge"))
        syscalls.setns(get_int(arguments, "netns"), CLONE.NEWNET)
        with Rtnl() as inside:
            taken = {link.name for link in inside.links()}
            name = get_str(arguments, "name") or free_name(get_str(arguments, "prefix"), taken)
            if name in taken:
                raise FileExistsError(errno.EEXIST, "File exists", name)
            outside.add_veth(
                get_str(arguments, "host_name"),
                name,
                peer_pid=get_int(arguments, "pid"),
                master=bridge.index if bridge is not None else 0,
                mtu=get_int(arguments, "mtu"),
                peer_mac=get_str(arguments, "mac"),
            )
            outside.flush()
            _configure(inside, name, arguments)
    return name


def _configure(inside: Rtnl, name: str, arguments: JsonObject) -> None:
    link = inside.find_link(name)
    assert link is not None
    for address in get_strings(arguments, "addresses"):
        inside.add_address(link.index, address)
    proc_sys = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not any(":" in address for address in get_strings(arguments, "addresses")):
            disable_ipv6(proc_sys, name)
        write_sysctls(proc_sys, name, get_strings(arguments, "sysctls"))
    finally:
        os.close(proc_sys)
    inside.set_up(link.index)
    gateway = get_str(arguments, "gateway")
    if gateway:
        inside.add_default_route(link.index, gateway, replace=True)
    inside.flush()


def detach(arguments: JsonValue, report: Report) -> JsonValue:
    """Removes the interface with the hardware address `mac` from `netns`; `gateway` becomes the way out."""
    del report
    assert isinstance(arguments, dict)
    syscalls.setns(get_int(arguments, "netns"), CLONE.NEWNET)
    with Rtnl() as inside:
        link = _find_by_mac(inside, get_str(arguments, "mac"))
        if link is not None:
            inside.delete_link(link.index)
            inside.flush()
        gateway = get_str(arguments, "gateway")
        heir = _find_by_mac(inside, get_str(arguments, "gateway_mac"))
        has_way_out = any(target == "0.0.0.0/0" for target, _ in inside.routes())
        if gateway and heir is not None and not has_way_out:
            inside.add_default_route(heir.index, gateway)
            inside.flush()
    return None


def _find_by_mac(inside: Rtnl, mac: str) -> Link | None:
    return next((link for link in inside.links() if mac and link.mac == mac.lower()), None)
