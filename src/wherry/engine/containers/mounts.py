"""The `mounts` of an OCI specification: Docker's own, then what the container asks for. Pure.

Later mounts go below earlier ones only when their places are sorted by depth, as Docker sorts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wherry.engine.containers.mount_points import find_mount
from wherry.lib.cleanpath import clean_path
from wherry.lib.jsonvalue import JsonObject, JsonValue
from wherry.lib.words import words
from wherry.model.container import Container, Mount, MountPoint, TmpfsOptions
from wherry.model.errors import Internal, InvalidArgument

_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_TMPFS_FLAGS = frozenset(
    words(
        "ro rw exec noexec suid nosuid dev nodev sync async atime noatime diratime nodiratime",
        "relatime norelatime strictatime nostrictatime mand nomand dirsync remount bind rbind",
        "private rprivate shared rshared slave rslave unbindable runbindable",
    )
)
_TMPFS_DATA = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_OPPOSITES = {
    "exec": "noexec",
    "suid": "nosuid",
    "dev": "nodev",
    "rw": "ro",
    "async": "sync",
    "atime": "noatime",
    "diratime": "nodiratime",
    "relatime": "norelatime",
    "strictatime": "nostrictatime",
}
_CANCELS = {**_OPPOSITES, **{no: yes for yes, no in _OPPOSITES.items()}}
_SIZE = re.compile(r"\d+[kKmMgG]?%?\Z")

MANAGED_FILES = {
    "/etc/resolv.conf": "resolv.conf",
    "/etc/hostname": "hostname",
    "/etc/hosts": "hosts",
}


def default_mounts(
    *, shm_size: int, own_ipc: bool, cgroup_writable: bool, sys_writable: bool
) -> list[JsonValue]:
    """What every container has (moby daemon/pkg/oci/defaults.go)."""
    access = "rw" if sys_writable else "ro"
    mounts: list[JsonValue] = [
        _mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
        _mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        _mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", access)),
        _mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            ("rw" if cgroup_writable else "ro", "nosuid", "noexec", "nodev"),
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ]
    if own_ipc:
        mounts.append(
            _mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                ("nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"),
            )
        )
    return mounts


def managed_mounts(folder: Path, taken: Iterable[str], *, read_only: bool) -> list[JsonValue]:
    """The container's hosts, hostname and resolv.conf, unless the user mounts something there."""
    present = set(taken)
    options = ("rbind", "ro", "rprivate") if read_only else ("rbind", "rprivate")
    return [
        _mount(destination, "bind", str(folder / name), options)
        for destination, name in MANAGED_FILES.items()
        if destination not in present
    ]


def user_mounts(
    container: Container, *, sources: Mapping[str, str] | None = None
) -> list[JsonValue]:
    """`sources` are paths by destination where a mount point's own is not what is mounted.

    Binds, volumes, image mounts and tmpfs. Raises InvalidArgument.
    """
    entries: list[JsonValue] = []
    for point in container.mount_points:
        if point.type == "tmpfs":
            mount = find_mount(container.host_config, point.destination)
            options = mount.tmpfs_options if mount is not None else None
            entries.append(_tmpfs_mount(point, options or TmpfsOptions()))
        else:
            entries.append(_bind_mount(container, point, sources or {}))
    for path, text in container.host_config.tmpfs.items():
        words = ("rprivate", *tmpfs_options(text))
        entries.append(_mount(clean_path(path), "tmpfs", "tmpfs", words))
    return entries


def _bind_mount(container: Container, point: MountPoint, sources: Mapping[str, str]) -> JsonObject:
    source = sources.get(point.destination, point.source)
    recursive, read_only = "rbind", "rro"
    if point.type == "bind" and container.host_config.shallow_read_only:
        read_only = "ro"
    mount = find_mount(container.host_config, point.destination)
    if mount is not None and mount.bind_options is not None:
        _check_read_only(mount)
        if mount.bind_options.non_recursive:
            recursive, read_only = "bind", "ro"
        elif mount.bind_options.read_only_non_recursive:
            read_only = "ro"
    options = [recursive]
    if not point.rw:
        options.append(read_only)
    options.append(point.propagation or "rprivate")
    return _mount(point.destination, "bind", source, options)


def _check_read_only(mount: Mount) -> None:
    """At the start, as dockerd does, with status 500."""
    options = mount.bind_options
    if options is not None and options.read_only_force_recursive:
        clash = ""
        if not mount.read_only:
            clash = "!ReadOnly"
        elif options.read_only_non_recursive:
            clash = "BindOptions.ReadOnlyNonRecursive"
        if clash:
            raise Internal(f"mount options conflict: {clash} && BindOptions.ReadOnlyForceRecursive")


def _tmpfs_mount(point: MountPoint, options: TmpfsOptions) -> JsonObject:
    words = ["noexec", "nosuid", "nodev"]
    for option in options.options:
        words = _add_option(words, "=".join(option))
    if options.mode:
        words.append(f"mode={options.mode:o}")
    if options.size_bytes:
        words.append(f"size={options.size_bytes}")
    if not point.rw:
        words.append("ro")
    return _mount(point.destination, "tmpfs", "tmpfs", ("rprivate", *words))


def tmpfs_options(text: str) -> list[str]:
    """`--tmpfs` options over Docker's defaults. Raises InvalidArgument."""
    words = list(_TMPFS_DEFAULTS)
    for word in filter(None, text.split(",")):
        words = _add_option(words, word)
    return words


def _add_option(words: list[str], word: str) -> list[str]:
    name, separator, value = word.partition("=")
    if separator:
        if name not in _TMPFS_DATA or (name == "size" and not _SIZE.match(value)):
            raise InvalidArgument(f'invalid tmpfs option "{name}"')
        return [w for w in words if not w.startswith(f"{name}=")] + [word]
    if name not in _TMPFS_FLAGS:
        raise InvalidArgument(f'invalid tmpfs option "{word}"')
    return [w for w in words if w not in {word, _CANCELS.get(word)}] + [word]


def _mount(
    destination: str, kind: str, source: str, options: Sequence[str]
) -> dict[str, JsonValue]:
    return {
        "destination": destination,
        "type": kind,
        "source": source,
        "options": list(options),
    }
