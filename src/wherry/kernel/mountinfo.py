"""/proc/PID/mountinfo as records. See proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
import re

_ESCAPE = re.compile(r"\\([0-7]{3})")


class MountInfo:
    """One line of mountinfo."""

    __slots__ = (
        "device",
        "fstype",
        "mount_id",
        "mount_point",
        "options",
        "parent_id",
        "propagation",
        "root",
        "source",
        "super_options",
    )

    def __init__(self, line: str) -> None:
        head, _, tail = line.rstrip("\n").partition(" - ")
        fields = head.split(" ")
        self.mount_id = int(fields[0])
        self.parent_id = int(fields[1])
        self.device = fields[2]
        self.root = _unescape(fields[3])
        self.mount_point = _unescape(fields[4])
        self.options = frozenset(fields[5].split(","))
        self.propagation = tuple(fields[6:])  # "shared:1", "master:2", ...
        kind = tail.split(" ")
        self.fstype = kind[0]
        self.source = _unescape(kind[1]) if len(kind) > 1 else ""
        self.super_options = frozenset(kind[2].split(",")) if len(kind) > 2 else frozenset()

    def is_shared(self) -> bool:
        """Whether mounts below it propagate to peers."""
        return any(field.startswith("shared:") for field in self.propagation)

    def is_slave(self) -> bool:
        """Whether it receives mounts from a master."""
        return any(field.startswith("master:") for field in self.propagation)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def read_mountinfo(path: str = "/proc/self/mountinfo") -> list[MountInfo]:
    """Every mount of a process's mount namespace, in the kernel's order."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return [MountInfo(line) for line in file]


def find_mount(path: str, mounts: list[MountInfo]) -> MountInfo | None:
    """The mount that holds `path` (already resolved): the longest mount point, the topmost of equals."""
    found: MountInfo | None = None
    for mount in mounts:
        point = mount.mount_point
        holds = path == point or path.startswith(point.rstrip("/") + os.sep)
        if holds and (found is None or len(point) >= len(found.mount_point)):
            found = mount
    return found
