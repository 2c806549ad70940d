"""Devices: nodes that a container gets and the rules of its device cgroup, as OCI values.

Reads /dev of this machine; everything else is pure.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable

from wherry.engine.containers.resources import parse_device_rule
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.model.container import Device, HostConfig
from wherry.model.errors import Internal

_STANDARD_NODES = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))


def _allow_node(major: int, minor: int) -> JsonObject:
    return {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}


# moby daemon/pkg/oci/defaults.go; runc adds its own list for mknod of anything, ptmx and pts.
DEFAULT_RULES: tuple[JsonObject, ...] = (
    {"allow": False, "access": "rwm"},
    *(_allow_node(major, minor) for major, minor in _STANDARD_NODES),
    {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
)
ALLOW_ALL: tuple[JsonObject, ...] = ({"allow": True, "access": "rwm"},)

_SKIPPED_FOLDERS = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def container_devices(host_config: HostConfig) -> tuple[list[JsonValue], list[JsonValue]]:
    """Nodes to make and rules to set. Raises Internal with Docker's sentence (status 500)."""
    if host_config.privileged:
        return list(_host_devices()), list(ALLOW_ALL)
    nodes: list[JsonValue] = []
    rules: list[JsonValue] = list(DEFAULT_RULES)
    for device in host_config.devices:
        for path, target in _expand(device):
            node = _build_node(path, target)
            if node is None:
                raise Internal(
                    f'error gathering device information while adding custom device "{path}": '
                    "not a device node"
                )
            nodes.append(node)
            rules.append(
                {
                    "allow": True,
                    "type": node["type"],
                    "major": node["major"],
                    "minor": node["minor"],
                    "access": device.cgroup_permissions or "rwm",
                }
            )
    rules += [parse_device_rule(rule) for rule in host_config.device_cgroup_rules]
    return nodes, rules


def _expand(device: Device) -> Iterable[tuple[str, str]]:
    """A device, or every device below a directory, with its place in the container."""
    source = os.path.realpath(device.path_on_host)
    target = device.path_in_container or device.path_on_host
    try:
        mode = os.stat(source).st_mode
    except OSError as exc:
        raise Internal(
            f'error gathering device information while adding custom device "{device.path_on_host}": '
            f"{(exc.strerror or '').lower()}"
        ) from exc
    if not stat.S_ISDIR(mode):
        return [(source, target)]
    found: list[tuple[str, str]] = []
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in files:
            path = os.path.join(folder, name)
            if _is_device(path):
                found.append((path, posixpath.join(target, os.path.relpath(path, source))))
    if not found:
        raise Internal(
            f'error gathering device information while adding custom device "{device.path_on_host}": '
            "not a device node"
        )
    return found


def _host_devices() -> Iterable[JsonObject]:
    for folder, folders, files in os.walk("/dev"):
        if folder == "/dev":
            folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in sorted(files):
            path = os.path.join(folder, name)
            if path == "/dev/console" or not _is_device(path):
                continue
            node = _build_node(path, path)
            if node is not None:
                yield node


def _is_device(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _build_node(path: str, target: str) -> JsonObject | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return {
        "path": target,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
