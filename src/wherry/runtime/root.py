"""A container's root file system: where it comes from, and how it becomes one detached mount.

`open_root` is called in the host's mount namespace by the process that launches; the mount exists only as
a descriptor until init attaches it in a namespace of its own. See pitfalls: overlay options, volatile.
"""

from __future__ import annotations

import os

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, AT_FDCWD, FSCONFIG, MS, OPEN_TREE
from wherry.runtime.errors import StepError

MAX_LAYERS = 125
_FIXED_OPTIONS = (
    # Without xino each layer has a device number of its own; the others would change what files are.
    (b"xino", b"auto"),
    (b"index", b"off"),
    (b"redirect_dir", b"off"),
    (b"metacopy", b"off"),
)


class OverlayRoot:
    """Overlay of directories, topmost lower first; without `upper` it is read-only."""

    __slots__ = ("lowers", "upper", "volatile", "work")

    def __init__(
        self, lowers: tuple[str, ...], upper: str = "", work: str = "", *, volatile: bool = False
    ) -> None:
        self.lowers = lowers
        self.upper = upper
        self.work = work
        self.volatile = volatile


class DirectoryRoot:
    """A plain directory, with what is mounted below it."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


Root = OverlayRoot | DirectoryRoot


def open_root(root: Root) -> int:
    """A descriptor of a detached mount of `root`; raises OSError or StepError."""
    if isinstance(root, DirectoryRoot):
        flags = OPEN_TREE.CLONE | AT.RECURSIVE
        fd = syscalls.open_tree(AT_FDCWD, os.fsencode(root.path), flags)
        syscalls.mount_setattr(fd, b"", AT.EMPTY_PATH | AT.RECURSIVE, propagation=MS.PRIVATE)
        return fd
    if len(root.lowers) > MAX_LAYERS:
        raise StepError("overlay", "max depth exceeded")
    return _open_overlay(root)


def _open_overlay(root: OverlayRoot) -> int:
    lowers = root.lowers
    if len(lowers) == 1 and not root.upper:
        # Overlay wants two layers; an empty one on top changes nothing.
        fd = syscalls.open_tree(AT_FDCWD, os.fsencode(lowers[0]), OPEN_TREE.CLONE)
        syscalls.mount_setattr(fd, b"", AT.EMPTY_PATH, attr_set=1, propagation=MS.PRIVATE)
        return fd
    fs = syscalls.fsopen(b"overlay")
    try:
        syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"source", b"overlay")
        _set_lowers(fs, lowers)
        if root.upper:
            syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"upperdir", os.fsencode(root.upper))
            syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"workdir", os.fsencode(root.work))
        for key, value in _FIXED_OPTIONS:
            syscalls.fsconfig(fs, FSCONFIG.SET_STRING, key, value)
        if root.volatile and root.upper:
            syscalls.fsconfig(fs, FSCONFIG.SET_FLAG, b"volatile")
        syscalls.fsconfig(fs, FSCONFIG.CMD_CREATE)
        return syscalls.fsmount(fs, 0)
    finally:
        os.close(fs)


def _set_lowers(fs: int, lowers: tuple[str, ...]) -> None:
    for lower in lowers:
        syscalls.fsconfig(fs, FSCONFIG.SET_STRING, b"lowerdir+", os.fsencode(lower))
