"""Paths inside a root, by descriptor: found, or made, without ever leaving it.

Resolution is the kernel's (openat2 with RESOLVE_IN_ROOT); magic links are refused. What is missing is made
one name at a time below a descriptor, so that a swapped directory can only be hit inside the root.
"""

from __future__ import annotations

import errno
import os

from wherry.kernel import syscalls
from wherry.kernel.consts import RESOLVE
from wherry.runtime.errors import StepError

IN_ROOT = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
STRICT = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS
_MAX_LINKS = 40


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH) -> int:
    """openat2 inside the root; symbolic links are followed inside it."""
    return syscalls.openat2(root_fd, os.fsencode(path), flags, resolve=IN_ROOT)


def open_beneath(dir_fd: int, path: str, flags: int = os.O_PATH) -> int:
    """openat2 of a relative path that may neither hold a link nor leave `dir_fd`."""
    return syscalls.openat2(dir_fd, os.fsencode(path), flags, resolve=STRICT)


def ensure_in_root(
    root_fd: int, path: str, *, directory: bool, mode: int = 0o755
) -> tuple[int, bool]:
    """An O_PATH descriptor of `path`, made if missing; True = it was made just now."""
    try:
        return open_in_root(root_fd, path), False
    except FileNotFoundError:
        pass
    todo = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    done = ""
    links = 0
    parent = open_in_root(root_fd, "/")
    try:
        while todo:
            part = todo.pop()
            try:
                child = open_in_root(root_fd, f"{done}/{part}")
            except FileNotFoundError:
                target = _read_link(part, parent)
                if target is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                    todo.extend(p for p in reversed(target.split("/")) if p not in {"", "."})
                    if target.startswith("/"):
                        done = ""
                        os.close(parent)
                        parent = -1
                        parent = open_in_root(root_fd, "/")
                    continue
                child = _make(parent, part, directory=directory or bool(todo), mode=mode)
            os.close(parent)
            parent = child
            done = f"{done}/{part}"
    except BaseException:
        if parent >= 0:
            os.close(parent)
        raise
    return parent, True


def _make(parent: int, name: str, *, directory: bool, mode: int) -> int:
    if name == "..":
        raise StepError(name, "not a directory", errno.ENOTDIR)
    try:
        if directory:
            os.mkdir(name, mode, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, mode, dir_fd=parent))
    except FileExistsError:
        pass
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _read_link(name: str, parent: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None
