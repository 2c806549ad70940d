"""What the `local` driver's options `type`, `device` and `o` mount on a volume's directory. Blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from wherry.kernel import syscalls
from wherry.kernel.consts import MNT, MS
from wherry.kernel.mountinfo import read_mountinfo
from wherry.model.errors import InvalidArgument

# moby/sys mount, flags_linux.go: what a word of `o` sets or clears; the rest is the file system's own.
_FLAGS = {
    "bind": (MS.BIND, False),
    "rbind": (MS.BIND | MS.REC, False),
    "ro": (MS.RDONLY, False),
    "rw": (MS.RDONLY, True),
    "nosuid": (MS.NOSUID, False),
    "suid": (MS.NOSUID, True),
    "nodev": (MS.NODEV, False),
    "dev": (MS.NODEV, True),
    "noexec": (MS.NOEXEC, False),
    "exec": (MS.NOEXEC, True),
    "sync": (MS.SYNCHRONOUS, False),
    "async": (MS.SYNCHRONOUS, True),
    "dirsync": (MS.DIRSYNC, False),
    "noatime": (MS.NOATIME, False),
    "atime": (MS.NOATIME, True),
    "nodiratime": (MS.NODIRATIME, False),
    "diratime": (MS.NODIRATIME, True),
    "relatime": (MS.RELATIME, False),
    "norelatime": (MS.RELATIME, True),
    "strictatime": (MS.STRICTATIME, False),
    "nostrictatime": (MS.STRICTATIME, True),
    "private": (MS.PRIVATE, False),
    "rprivate": (MS.PRIVATE | MS.REC, False),
    "shared": (MS.SHARED, False),
    "rshared": (MS.SHARED | MS.REC, False),
    "slave": (MS.SLAVE, False),
    "rslave": (MS.SLAVE | MS.REC, False),
    "unbindable": (MS.UNBINDABLE, False),
    "runbindable": (MS.UNBINDABLE | MS.REC, False),
    "defaults": (0, False),
}
_PROPAGATION = MS.PRIVATE | MS.SHARED | MS.SLAVE | MS.UNBINDABLE


class MountFailed(Exception):
    """The kernel refused; the message is Docker's."""


def check_options(options: Mapping[str, str]) -> None:
    """Raises InvalidArgument, with what comes after `create NAME: `."""
    for name in options:
        if name not in {"type", "device", "o", "size"}:
            raise InvalidArgument(f'invalid option: "{name}"')
    if "size" in options:
        raise InvalidArgument("quota size requested but no quota support")
    for name in ("device", "type"):
        if options and not options.get(name):
            raise InvalidArgument(f'missing required option: "{name}"')


def is_mounted(place: Path) -> bool:
    """Whether something is mounted there."""
    wanted = os.path.realpath(place)
    return any(mount.mount_point == wanted for mount in read_mountinfo())


def mount_volume(place: Path, options: Mapping[str, str]) -> None:
    """Idempotent. Raises MountFailed."""
    if is_mounted(place):
        return
    flags, words = 0, []
    for word in filter(None, options.get("o", "").split(",")):
        if word not in _FLAGS:
            words.append(word)
            continue
        bits, clears = _FLAGS[word]
        flags = flags & ~bits if clears else flags | bits
    device, data = options["device"], ",".join(words)
    propagation = flags & _PROPAGATION
    first = flags & ~(_PROPAGATION | (MS.REC if propagation and not flags & MS.BIND else 0))
    target = os.fsencode(place)
    try:
        syscalls.mount(
            os.fsencode(device), target, os.fsencode(options["type"]), first, os.fsencode(data)
        )
        if first & MS.BIND and first & ~(MS.BIND | MS.REC):
            syscalls.mount(None, target, None, first | MS.REMOUNT)
        if propagation:
            syscalls.mount(None, target, None, propagation | (flags & MS.REC))
    except OSError as exc:
        shown = f"mount {device}:{place}"
        shown += f", flags: {int(flags):#x}" if flags else ""
        shown += f", data: {data}" if data else ""
        raise MountFailed(f"{shown}: {os.strerror(exc.errno or 0).lower()}") from exc


def unmount_volume(place: Path) -> None:
    """Idempotent. Raises OSError."""
    while is_mounted(place):
        syscalls.umount2(os.fsencode(place), MNT.DETACH)
