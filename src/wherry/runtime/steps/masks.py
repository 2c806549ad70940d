"""maskedPaths and readonlyPaths.

What is masked is opened by descriptor, beneath the proc and sysfs that this launch mounted, without
following links, and what it is masked with is checked to be the real null device: an image can neither
move a mask elsewhere nor swap its cover.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.kernel import syscalls
from wherry.kernel.consts import AT, MOUNT_ATTR, OPEN_TREE, RESOLVE
from wherry.runtime.context import Context
from wherry.runtime.errors import StepError
from wherry.runtime.steps import Step
from wherry.runtime.steps.mounts import attach, make_filesystem
from wherry.runtime.steps.paths import open_beneath, open_in_root

_NO_LINKS = RESOLVE.IN_ROOT | RESOLVE.NO_SYMLINKS
_ABSENT = {errno.ENOENT, errno.ENOTDIR}


class MaskPaths(Step):
    """Files are covered by the null device, directories by one empty read-only tmpfs."""

    __slots__ = ("paths",)
    name = "mask"
    ahead = True
    late = False

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.paths = paths

    def describe(self) -> str:
        return f"mask {', '.join(self.paths)}"

    def apply(self, context: Context) -> None:
        empty = -1
        null = _open_null(context)
        try:
            for path in self.paths:
                target = _open_target(context, path)
                if target < 0:
                    continue
                try:
                    if stat.S_ISDIR(os.fstat(target).st_mode):
                        if empty < 0:
                            empty = _make_empty()
                            cover = empty
                        else:
                            cover = syscalls.open_tree(empty, b"", OPEN_TREE.CLONE | AT.EMPTY_PATH)
                    else:
                        cover = syscalls.open_tree(null, b"", OPEN_TREE.CLONE | AT.EMPTY_PATH)
                    attach(cover, target)
                    if cover != empty:
                        os.close(cover)
                finally:
                    os.close(target)
        finally:
            os.close(null)
            if empty >= 0:
                os.close(empty)


class ReadonlyPaths(Step):
    """Each path bound over itself, read-only, keeping its other attributes."""

    __slots__ = ("paths",)
    name = "readonly path"
    ahead = True
    late = False

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.paths = paths

    def describe(self) -> str:
        return f"make read-only {', '.join(self.paths)}"

    def apply(self, context: Context) -> None:
        flags = OPEN_TREE.CLONE | AT.RECURSIVE | AT.EMPTY_PATH
        for path in self.paths:
            target = _open_target(context, path)
            if target < 0:
                continue
            try:
                tree = syscalls.open_tree(target, b"", flags)
                try:
                    syscalls.mount_setattr(
                        tree, b"", AT.EMPTY_PATH | AT.RECURSIVE, attr_set=MOUNT_ATTR.RDONLY
                    )
                    attach(tree, target)
                finally:
                    os.close(tree)
            finally:
                os.close(target)


def _open_target(context: Context, path: str) -> int:
    """An O_PATH descriptor of what is there to see, or -1 when there is nothing to cover."""
    try:
        # The visible proc, which need not be the one that was mounted first.
        return syscalls.openat2(context.root, os.fsencode(path), os.O_PATH, resolve=_NO_LINKS)
    except OSError as error:
        if error.errno in _ABSENT:
            return -1
        if error.errno != errno.ELOOP or path.startswith(("/proc/", "/sys/")):
            raise
    return open_in_root(context.root, path)


def _open_null(context: Context) -> int:
    dev = context.mounts.get("/dev", -1)
    null = open_beneath(dev, "null") if dev >= 0 else open_in_root(context.root, "/dev/null")
    found = os.fstat(null)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        os.close(null)
        raise StepError("/dev/null", "is not the null device", errno.EPERM)
    return null


def _make_empty() -> int:
    options: list[tuple[bytes, bytes | None]] = [(b"ro", None), (b"size", b"4k")]
    options.append((b"nr_inodes", b"1"))
    return make_filesystem(b"tmpfs", b"tmpfs", options, MOUNT_ATTR.RDONLY)
