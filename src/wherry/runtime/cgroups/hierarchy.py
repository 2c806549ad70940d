"""Where control groups are mounted on this machine: version 1, version 2, or both at once (hybrid)."""

from __future__ import annotations

import os

from wherry.kernel.mountinfo import read_mountinfo

_NOT_CONTROLLERS = frozenset({"rw", "ro", "xattr", "clone_children", "noprefix", "favordynmods"})


class Hierarchy:
    """One mounted hierarchy; `controllers` is empty for a named one and for version 2's own view."""

    __slots__ = ("controllers", "mount_point", "name", "version")

    def __init__(
        self, version: int, mount_point: str, controllers: tuple[str, ...], name: str = ""
    ) -> None:
        self.version = version
        self.mount_point = mount_point
        self.controllers = controllers
        self.name = name  # "systemd" for name=systemd

    def label(self) -> str:
        """The directory name under /sys/fs/cgroup: "cpu,cpuacct", "memory", "systemd"."""
        return os.path.basename(self.mount_point)

    def options(self) -> str:
        """What mount(2) needs to find this hierarchy again."""
        return f"name={self.name}" if self.name else ",".join(self.controllers)


_cache: list[Hierarchy] = []


def hierarchies() -> list[Hierarchy]:
    """Every hierarchy, the first mount of each; read once per process."""
    if _cache:
        return _cache
    seen: set[str] = set()
    for mount in read_mountinfo():
        if mount.fstype == "cgroup2" and "2" not in seen:
            seen.add("2")
            _cache.append(Hierarchy(2, mount.mount_point, ()))
        elif mount.fstype == "cgroup" and mount.device not in seen:
            seen.add(mount.device)
            words = sorted(mount.super_options - _NOT_CONTROLLERS)
            names = [word[5:] for word in words if word.startswith("name=")]
            controllers = tuple(word for word in words if "=" not in word)
            name = names[0] if names else ""
            _cache.append(Hierarchy(1, mount.mount_point, controllers, name))
    return _cache


def read_text(path: str) -> str:
    """A control file's contents; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode()
    finally:
        os.close(fd)


def write_text(path: str, value: str) -> None:
    """One write(2) to a control file; raises OSError with the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {value}: {error.strerror}", path) from error
    finally:
        os.close(fd)


def read_number(path: str) -> int | None:
    """A control file of one number; None when it is absent or says "max"."""
    try:
        text = read_text(path).strip()
    except OSError:
        return None
    return int(text) if text.lstrip("-").isdigit() else None


def read_table(path: str) -> dict[str, int]:
    """A control file of lines "key number"; empty when it is absent."""
    try:
        text = read_text(path)
    except OSError:
        return {}
    table: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            table[key] = int(value)
    return table
