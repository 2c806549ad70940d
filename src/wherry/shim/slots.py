"""Slots: shims with an init made ahead (`wherry.runtime.staging`), and which containers may use one.

A slot takes off a start what the kernel is slow at: the grace period of a first attach to a cgroup (11 ms),
namespaces, a network interface, some thirty mounts, and three forks. Its groups have the name of the container
from the start, which therefore gets its id from a slot when it is created.

What cannot be the same for a whole class is left to the second part of the start or starts cold.
"""

from __future__ import annotations

import posixpath

from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_int,
    get_object,
    get_objects,
    get_str,
    get_strings,
)
from wherry.runtime.orders import MAX_DESCRIPTORS
from wherry.runtime.steps.mounts import is_staged

# What init itself needs for a moment, as a member of the group.
_LEAST_MEMORY = 64 << 20
_LEAST_CPUS = 0.5
_LIMITED = ("realtimeRuntime", "idle")
_OTHER_DESCRIPTORS = 8
_NEEDED = frozenset({"mount", "network", "uts", "pid", "ipc"})
_POSSIBLE = _NEEDED | {"cgroup"}
_BAKED = ("namespaces", "maskedPaths", "readonlyPaths", "sysctl")
_UNKNOWN = ("devices", "uidMappings", "gidMappings", "rootfsPropagation", "personality")


def slot_class(oci: JsonObject, interfaces: JsonValue) -> JsonObject | None:
    """The class of slots that may serve this container, or None: what `wherry.runtime.staging.stage` is given.

    Pure. Whatever is not known to be the same for the whole class is None. Equal documents are one class.
    """
    linux = get_object(oci, "linux")
    namespaces = get_objects(linux, "namespaces")
    kinds = {get_str(item, "type") for item in namespaces}
    if any(get_str(item, "path") for item in namespaces) or not _NEEDED <= kinds <= _POSSIBLE:
        return None
    if any(linux.get(key) for key in _UNKNOWN) or _is_narrow(get_object(linux, "resources")):
        return None
    wired = get_objects({"interfaces": interfaces}, "interfaces")
    if len(wired) > 1 or any(_is_special(item) for item in wired):
        return None
    mounts = _staged_mounts(get_objects(oci, "mounts"))
    if mounts is None:
        return None
    keys = ("name", "bridge", "mtu")
    return {
        "oci": {
            "process": {"args": ["true"], "cwd": "/"},
            "mounts": mounts,
            "linux": {key: linux.get(key) for key in _BAKED},
        },
        "interfaces": [{key: item.get(key) for key in keys} for item in wired],
    }


def _staged_mounts(mounts: tuple[JsonObject, ...]) -> list[JsonValue] | None:
    """Those at and below /proc, /dev and /sys, which must be file systems of the container's own."""
    staged: list[JsonValue] = []
    found = {get_str(mount, "destination") for mount in mounts}
    needed = {"/dev", "/dev/pts"}
    for mount in mounts:
        destination = posixpath.normpath("/" + get_str(mount, "destination").lstrip("/"))
        if not is_staged(destination):
            continue
        if get_str(mount, "type") == "bind" or {"bind", "rbind"} & {*get_strings(mount, "options")}:
            return None
        staged.append(mount)
        needed.add("/" + destination.split("/")[1])
    if not needed <= found or len(mounts) + _OTHER_DESCRIPTORS > MAX_DESCRIPTORS:
        return None
    return staged


def _is_special(interface: JsonObject) -> bool:
    addresses = get_strings(interface, "addresses")
    return (
        not get_str(interface, "bridge")
        or get_str(interface, "name") != "eth0"
        or bool(get_strings(interface, "sysctls"))
        or any(":" in address for address in addresses)
    )


def _is_narrow(resources: JsonObject) -> bool:
    memory = get_object(resources, "memory")
    limits = (get_int(memory, "limit"), get_int(memory, "swap"))
    cpu = get_object(resources, "cpu")
    quota, period = get_int(cpu, "quota"), get_int(cpu, "period") or 100_000
    return (
        any(0 < limit < _LEAST_MEMORY for limit in limits)
        or 0 < quota < period * _LEAST_CPUS
        or any(bool(cpu.get(key)) for key in _LIMITED)
    )
